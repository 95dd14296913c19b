package adcstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Packet types of connection-oriented DCE/RPC (C706, section 12.6.4).
const (
	pduRequest       byte = 0
	pduResponse      byte = 2
	pduFault         byte = 3
	pduBind          byte = 11
	pduBindAck       byte = 12
	pduBindNak       byte = 13
	pduAlter         byte = 14
	pduAlterResponse byte = 15
	pduAuth3         byte = 16
	pduCancel        byte = 18
	pduOrphaned      byte = 19
)

// Flags of a PDU.
const (
	flagFirst      byte = 0x01
	flagLast       byte = 0x02
	flagHeaderSign byte = 0x04 // in a bind: PFC_SUPPORT_HEADER_SIGN
	flagNotDone    byte = 0x20 // in a fault: PFC_DID_NOT_EXECUTE
	flagObject     byte = 0x80
)

// Sizes of the fixed parts, and the most we take.
const (
	headerSize   = 16
	trailerSize  = 8
	requestSize  = 24
	objectSize   = 16
	maxFragment  = 5840
	maxRequest   = 4 << 20
	maxTransfers = 64
)

var le = binary.LittleEndian

// pdu is one packet, cut into its parts.
type pdu struct {
	raw       []byte
	kind      byte
	flags     byte
	drep      uint32
	callID    uint32
	body      []byte // after the common header, before the trailer
	trailer   []byte // sec_trailer, nil without authentication
	signature []byte // auth_value
}

// readPDU reads one packet and checks its lengths.
func readPDU(r io.Reader) (*pdu, error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size, auth := int(le.Uint16(head[8:])), int(le.Uint16(head[10:]))
	switch {
	case head[0] != 5 || head[1] > 1:
		return nil, fmt.Errorf("RPC version %d.%d", head[0], head[1])
	case head[4]>>4 != 1:
		return nil, errors.New("the peer is big-endian")
	case size < headerSize:
		return nil, fmt.Errorf("fragment of %d octets", size)
	}
	raw := make([]byte, size)
	copy(raw, head)
	if _, err := io.ReadFull(r, raw[headerSize:]); err != nil {
		return nil, err
	}
	p := &pdu{raw: raw, kind: head[2], flags: head[3], drep: le.Uint32(head[4:]), callID: le.Uint32(head[12:])}
	end := size
	if auth > 0 {
		end = size - auth - trailerSize
		if end < headerSize {
			return nil, fmt.Errorf("authentication of %d octets in a fragment of %d", auth, size)
		}
		p.trailer, p.signature = raw[end:end+trailerSize], raw[end+trailerSize:]
	}
	p.body = raw[headerSize:end]
	return p, nil
}

func (p *pdu) first() bool { return p.flags&flagFirst != 0 }
func (p *pdu) last() bool  { return p.flags&flagLast != 0 }

// contextID names the security context of the trailer.
func (p *pdu) contextID() uint32 { return le.Uint32(p.trailer[4:]) }

// newPDU starts a packet; finish sets its length.
func newPDU(kind, flags byte, callID uint32) []byte {
	b := []byte{5, 0, kind, flags, 0x10, 0, 0, 0, 0, 0, 0, 0}
	return le.AppendUint32(b, callID)
}

func finish(b []byte, signature []byte) []byte {
	le.PutUint16(b[8:], uint16(len(b)+len(signature)))
	le.PutUint16(b[10:], uint16(len(signature)))
	return append(b, signature...)
}

// syntaxID is a UUID and version as the wire has them.
type syntaxID [20]byte

// syntax reads a UUID in text form. Version is major | minor<<16.
func syntax(uuid string, version uint32) syntaxID {
	var b [16]byte
	n := 0
	for i := 0; i+1 < len(uuid); {
		if uuid[i] == '-' {
			i++
			continue
		}
		if _, err := fmt.Sscanf(uuid[i:i+2], "%02x", &b[n]); err != nil {
			panic("a UUID of ours is not one: " + uuid)
		}
		n, i = n+1, i+2
	}
	// The first three fields are little-endian integers.
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5], b[6], b[7] = b[5], b[4], b[7], b[6]
	var s syntaxID
	copy(s[:], b[:])
	le.PutUint32(s[16:], version)
	return s
}

var (
	syntaxNDR = syntax("8a885d04-1ceb-11c9-9fe8-08002b104860", 2)
	// featurePrefix begins the transfer syntax of bind time feature negotiation
	// ([MS-RPCE], section 3.3.1.5.3).
	featurePrefix = syntax("6cb71c2c-9812-4540-0000-000000000000", 1)
)

// offer is a presentation context that a bind proposes.
type offer struct {
	id        uint16
	abstract  syntaxID
	transfers []syntaxID
}

// binding is the body of bind and alter_context.
type binding struct {
	maxReceive uint16
	group      uint32
	offers     []offer
}

var errShort = errors.New("packet is cut short")

func parseBinding(b []byte) (binding, error) {
	if len(b) < 12 {
		return binding{}, errShort
	}
	r := binding{maxReceive: le.Uint16(b[2:]), group: le.Uint32(b[4:])}
	count := int(b[8])
	for b = b[12:]; count > 0; count-- {
		if len(b) < 24 {
			return binding{}, errShort
		}
		o := offer{id: le.Uint16(b), abstract: syntaxID(b[4:24])}
		n := int(b[2])
		b = b[24:]
		if n > maxTransfers || len(b) < 20*n {
			return binding{}, errShort
		}
		for ; n > 0; n-- {
			o.transfers = append(o.transfers, syntaxID(b))
			b = b[20:]
		}
		r.offers = append(r.offers, o)
	}
	return r, nil
}

// Results of a presentation context (C706, section 12.6.3.1).
const (
	resultAcceptance   uint16 = 0
	resultRejection    uint16 = 2
	resultNegotiateAck uint16 = 3

	reasonAbstract uint16 = 1
	reasonTransfer uint16 = 2
)

type bindResult struct {
	result, reason uint16
	transfer       syntaxID
}

// appendBindAck writes the body of bind_ack and alter_context_resp.
func appendBindAck(b []byte, maxTransmit int, group uint32, port string, results []bindResult) []byte {
	b = le.AppendUint16(b, uint16(maxTransmit))
	b = le.AppendUint16(b, maxFragment)
	b = le.AppendUint32(b, group)
	if port == "" {
		b = le.AppendUint16(b, 0)
	} else {
		b = le.AppendUint16(b, uint16(len(port)+1))
		b = append(append(b, port...), 0)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b = append(b, byte(len(results)), 0, 0, 0)
	for _, r := range results {
		b = le.AppendUint16(b, r.result)
		b = le.AppendUint16(b, r.reason)
		b = append(b, r.transfer[:]...)
	}
	return b
}
