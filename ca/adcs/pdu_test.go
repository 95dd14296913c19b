package adcs

import (
	"encoding/binary"
	"errors"
	"testing"
)

// pdu makes a PDU with these contents after the common header.
func pdu(kind byte, auth int, body ...byte) []byte {
	b := make([]byte, pduHeader, pduHeader+len(body))
	b[0], b[2], b[3], b[4] = 5, kind, 0x03, 0x10
	b = append(b, body...)
	binary.LittleEndian.PutUint16(b[8:], uint16(len(b)))
	binary.LittleEndian.PutUint16(b[10:], uint16(auth))
	return b
}

// sealed is a response with a stub of 16 bytes and an authentication value of 16.
func sealed(level, pad byte) []byte {
	body := make([]byte, 8+16)
	body = append(body, 10, level, pad, 0, 1, 0, 0, 0)
	return pdu(pduResponse, 16, append(body, make([]byte, 16)...)...)
}

func with(b []byte, offset int, value byte) []byte {
	b[offset] = value
	return b
}

func TestPDUs(t *testing.T) {
	bindAck := pdu(pduBindAck, 0, 0xB8, 0x10, 0xB8, 0x10, 0, 0, 0, 0, 0, 0)
	fault := pdu(pduFault, 0, make([]byte, 16)...)
	for _, c := range []struct {
		name string
		pdu  []byte
		now  phase
		ok   bool
	}{
		{"sealed response to a sealed call", sealed(packetPrivacy, 4), phaseSealed, true},
		{"response without protection to a sealed call", pdu(pduResponse, 0, make([]byte, 24)...), phaseSealed, false},
		{"response without protection to a plain call", pdu(pduResponse, 0, make([]byte, 24)...), phasePlain, true},
		{"response that is only signed", sealed(5, 4), phaseSealed, false},
		{"padding longer than the stub", sealed(packetPrivacy, 17), phaseSealed, false},
		{"authentication longer than the fragment", with(sealed(packetPrivacy, 4), 10, 60), phaseSealed, false},
		{"announced reply of gigabytes", with(sealed(packetPrivacy, 4), 19, 0x7F), phaseSealed, false},
		{"fault that says what is wrong", with(append([]byte(nil), fault...), 24, 5), phaseSealed, true},
		{"fault without a status carries no reply", fault, phaseSealed, false},
		{"answer to a bind is no reply", bindAck, phaseSealed, false},
		{"answer to an alter_context is no reply", pdu(pduAlterAck, 0, make([]byte, 24)...), phasePlain, false},
		{"answer to a bind", bindAck, phaseBind, true},
		{"answer to a bind with tiny fragments", pdu(pduBindAck, 0, 0x10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0), phaseBind, false},
		{"response to a bind", sealed(packetPrivacy, 4), phaseBind, false},
		{"request from the server", with(sealed(packetPrivacy, 4), 2, pduRequest), phaseSealed, false},
		{"big-endian server", with(sealed(packetPrivacy, 4), 4, 0), phaseSealed, false},
		{"web server", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), phaseBind, false},
		{"nothing", nil, phaseBind, false},
	} {
		err := checkPDU(c.pdu, c.now)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want accepted: %t", c.name, err, c.ok)
		}
		if err != nil && !errors.Is(err, errPDU) {
			t.Errorf("%s: error %v is not errPDU", c.name, err)
		}
	}
}

func TestCallsLeaveProtectedOnly(t *testing.T) {
	open := pdu(pduRequest, 0, make([]byte, 24)...)
	if checkOutgoing(open, phaseSealed) == nil {
		t.Error("a call without protection would be sent on a sealed connection")
	}
	if err := checkOutgoing(open, phasePlain); err != nil {
		t.Errorf("plain call: %v", err)
	}
	if err := checkOutgoing(with(sealed(packetPrivacy, 4), 2, pduRequest), phaseSealed); err != nil {
		t.Errorf("sealed call: %v", err)
	}
	if checkOutgoing(with(sealed(5, 4), 2, pduRequest), phaseSealed) == nil {
		t.Error("a call that is only signed would be sent on a sealed connection")
	}
}

func FuzzPDU(f *testing.F) {
	f.Add(sealed(packetPrivacy, 4), 2)
	f.Add(pdu(pduBindAck, 0, 0xB8, 0x10, 0xB8, 0x10, 0, 0, 0, 0, 0, 0), 0)
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, now int) {
		err := checkPDU(b, phase(now))
		if err == nil && phase(now) == phaseSealed && b[2] == pduResponse && binary.LittleEndian.Uint16(b[10:]) == 0 {
			t.Error("an unprotected response passes")
		}
	})
}
