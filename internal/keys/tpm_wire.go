package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// wire sends commands to a TPM. It implements transport.TPM of go-tpm.
type wire struct{ io.ReadWriteCloser }

const (
	// maxResponse is what a TPM may answer (TPM2_PT_MAX_RESPONSE_SIZE is 4096).
	maxResponse = 4096
	// headerSize is that of a response: tag, size, code.
	headerSize = 10
	// commandLimit bounds a command over a socket. Making an RSA key of 4096
	// bits may take a minute.
	commandLimit = 2 * time.Minute
	// rcRetry (TPM_RC_RETRY) says that the TPM did not begin: it tests itself,
	// or is busy. rcYielded and rcTesting say about the same.
	rcYielded, rcTesting, rcRetry = 0x908, 0x90a, 0x922
	// busyFor is how long a busy TPM is asked again.
	busyFor = 5 * time.Second
)

// Send implements transport.TPM.
func (w *wire) Send(command []byte) ([]byte, error) {
	began := time.Now()
	for delay := time.Millisecond; ; delay *= 2 {
		response, err := w.exchange(command)
		if err != nil {
			return nil, err
		}
		switch binary.BigEndian.Uint32(response[6:headerSize]) {
		case rcYielded, rcTesting, rcRetry:
			if time.Since(began) < busyFor {
				time.Sleep(delay)
				continue
			}
		}
		return response, nil
	}
}

func (w *wire) exchange(command []byte) ([]byte, error) {
	if c, ok := w.ReadWriteCloser.(net.Conn); ok {
		if err := c.SetDeadline(time.Now().Add(commandLimit)); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, maxResponse)
	for n := 0; ; { // a device answers in one piece, a socket perhaps not
		m, err := w.Read(response[n:])
		n += m
		if n >= headerSize {
			size := int(binary.BigEndian.Uint32(response[2:6]))
			if size < headerSize || size > maxResponse {
				return nil, fmt.Errorf("an answer that says it has %d octets", size)
			}
			if n >= size {
				return response[:size], nil
			}
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, io.ErrUnexpectedEOF
		}
	}
}

// dial opens a TPM: the device file of its resource manager, or the unix socket
// of a simulator.
func dial(path string) (io.ReadWriteCloser, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist): // not wrapped: for callers fs.ErrNotExist is a key's file that is missing
		return nil, fmt.Errorf("%v; is there a TPM 2.0, is it enabled in the firmware, and may the service see it (PrivateDevices=no, DeviceAllow=%s rw)?", err, path)
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSocket != 0:
		return net.DialTimeout("unix", path, 5*time.Second)
	case info.Mode()&os.ModeCharDevice == 0:
		return nil, errors.New("it is neither a device nor a socket")
	}
	f, err := openDevice(path)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w; the service's account must be in the group tss, and the unit must have DeviceAllow=%s rw", err, path)
	}
	return f, err
}
