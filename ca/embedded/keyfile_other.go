//go:build !unix

package embedded

// syncDir does nothing: NTFS logs names itself, and a folder cannot be synced.
func syncDir(string) error { return nil }
