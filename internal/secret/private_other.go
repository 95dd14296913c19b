//go:build !unix && !windows

package secret

// CheckPrivate knows nothing about this system's rights.
func CheckPrivate(string) error { return nil }

// CheckUnwritable knows nothing about this system's rights.
func CheckUnwritable(string) error { return nil }

// CheckOwner knows nothing about this system's rights.
func CheckOwner(string) error { return nil }

// Unchecked says why this system's rights say nothing.
func Unchecked() string {
	return "this system's file rights are not known: private files are not checked"
}

// RestrictMade leaves a folder as it was made.
func RestrictMade(string) error { return nil }

// RestrictFolder leaves a folder as it was made.
func RestrictFolder(string, ...string) error { return nil }

// ReadableFolder is for Windows; here the installer sets owner and mode.
func ReadableFolder(string, ...string) error { return nil }
