//go:build unix

package keys

import (
	"io"
	"os"
	"syscall"
)

// openDevice opens a device so that reads wait: the driver answers a read that
// does not wait with nothing at all while the TPM works.
func openDevice(path string) (io.ReadWriteCloser, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
