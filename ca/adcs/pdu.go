package adcs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The PDU types of C706, section 12.6, and [MS-RPCE] that matter here.
const (
	pduRequest  = 0
	pduResponse = 2
	pduFault    = 3
	pduBindAck  = 12
	pduBindNak  = 13
	pduAlterAck = 15
	pduShutdown = 17
)

const (
	pduHeader       = 16 // common header
	pduCallHeader   = 24 // with alloc_hint, context ID, cancel count: of requests, responses and faults
	pduTrailer      = 8  // sec_trailer before the authentication value
	pduLastFragment = 0x02
	packetPrivacy   = 6

	// A peer must take fragments of this size (C706, section 12.6.3.1); the
	// library computes with what the peer says and fails on less.
	minFragment = 1432
	// maxReply bounds one reply: a page of 100 database rows with requests of
	// 64 KiB each is below 8 MiB.
	maxReply = 16 << 20
)

// phase is what a peer may send just now.
type phase int

const (
	phaseBind   phase = iota // answers to bind and alter_context
	phasePlain               // replies to calls that are not authenticated
	phaseSealed              // replies to calls with packet privacy
)

// errPDU says that the peer does not speak DCE/RPC as it must.
var errPDU = errors.New("malformed or unprotected RPC message")

// checkHeader checks the common header and returns the length of the whole PDU.
func checkHeader(h []byte) (int, error) {
	if len(h) < pduHeader {
		return 0, fmt.Errorf("%w: short header", errPDU)
	}
	if h[0] != 5 || h[1] > 1 {
		return 0, fmt.Errorf("%w: version %d.%d (is another service listening on this port?)", errPDU, h[0], h[1])
	}
	if h[4] != 0x10 { // little-endian, ASCII; every Windows is
		return 0, fmt.Errorf("%w: data representation %#x", errPDU, h[4])
	}
	length, auth := int(binary.LittleEndian.Uint16(h[8:])), int(binary.LittleEndian.Uint16(h[10:]))
	if length < pduHeader || auth > 0 && length < pduHeader+pduTrailer+auth {
		return 0, fmt.Errorf("%w: fragment of %d bytes with %d of authentication", errPDU, length, auth)
	}
	return length, nil
}

// checkPDU decides whether a whole PDU may reach the library in this phase.
//
// The library verifies requests and responses alone: a fault with status 0, or
// an answer to a bind, would be decoded as the reply to a call without a look
// at any signature, and lengths that contradict each other end in a panic.
func checkPDU(p []byte, now phase) error {
	if _, err := checkHeader(p); err != nil {
		return err
	}
	switch kind := p[2]; {
	case kind == pduShutdown, kind == pduBindNak && now == phaseBind && len(p) >= pduHeader+2:
		return nil
	case kind == pduFault && now != phaseBind:
		return checkFault(p)
	case (kind == pduBindAck || kind == pduAlterAck) && now == phaseBind:
		return checkBindAck(p)
	case kind == pduResponse && now != phaseBind:
		return checkResponse(p, now)
	default:
		return fmt.Errorf("%w: unexpected type %d", errPDU, kind)
	}
}

func checkFault(p []byte) error {
	if len(p) < pduCallHeader+4 || faultStatus(p) == 0 {
		return fmt.Errorf("%w: fault without a status", errPDU)
	}
	return nil
}

func faultStatus(p []byte) uint32 { return binary.LittleEndian.Uint32(p[pduCallHeader:]) }

func checkBindAck(p []byte) error {
	if len(p) < pduHeader+10 {
		return fmt.Errorf("%w: short answer to a bind", errPDU)
	}
	if p[2] == pduAlterAck { // its fragment sizes mean nothing
		return nil
	}
	xmit, recv := binary.LittleEndian.Uint16(p[16:]), binary.LittleEndian.Uint16(p[18:])
	if xmit < minFragment || recv < minFragment {
		return fmt.Errorf("%w: fragments of %d and %d bytes", errPDU, xmit, recv)
	}
	return nil
}

func checkResponse(p []byte, now phase) error {
	auth := int(binary.LittleEndian.Uint16(p[10:]))
	if len(p) < pduCallHeader {
		return fmt.Errorf("%w: short response", errPDU)
	}
	if hint := binary.LittleEndian.Uint32(p[16:]); hint > maxReply {
		return fmt.Errorf("%w: reply of %d bytes announced", errPDU, hint)
	}
	if auth == 0 {
		if now == phaseSealed {
			return fmt.Errorf("%w: response without protection", errPDU)
		}
		return nil
	}
	return checkTrailer(p, auth, now)
}

// checkTrailer checks the sec_trailer of a request or response.
func checkTrailer(p []byte, auth int, now phase) error {
	stub := len(p) - pduTrailer - auth - pduCallHeader
	if stub < 0 {
		return fmt.Errorf("%w: authentication does not fit", errPDU)
	}
	trailer := p[len(p)-pduTrailer-auth:]
	if int(trailer[2]) > stub {
		return fmt.Errorf("%w: padding of %d bytes in %d", errPDU, trailer[2], stub)
	}
	if now == phaseSealed && trailer[1] != packetPrivacy {
		return fmt.Errorf("%w: protection level %d, not packet privacy", errPDU, trailer[1])
	}
	return nil
}

// checkOutgoing refuses to send a call without packet privacy where the road
// wants it, whatever the library was told.
func checkOutgoing(p []byte, now phase) error {
	if now != phaseSealed || len(p) < pduHeader || p[2] != pduRequest {
		return nil
	}
	auth := int(binary.LittleEndian.Uint16(p[10:]))
	if auth == 0 || len(p) < pduCallHeader+pduTrailer+auth {
		return fmt.Errorf("%w: call without protection", errPDU)
	}
	return checkTrailer(p, auth, now)
}
