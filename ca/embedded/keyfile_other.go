//go:build !unix

package embedded

// checkPrivate leaves the protection of a key to its folder's access control
// list, which the installer sets.
func checkPrivate(string) error { return nil }

// syncDir does nothing: NTFS logs names itself, and a folder cannot be synced.
func syncDir(string) error { return nil }
