package adcstest

import (
	"context"
	"errors"
	"fmt"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// request takes a fragment of a request, and serves the request with its last.
func (c *rpcConn) request(ctx context.Context, p *pdu) error {
	size := requestSize
	if p.flags&flagObject != 0 {
		size += objectSize
	}
	if headerSize+len(p.body) < size {
		return errShort
	}
	contextID, opnum := le.Uint16(p.raw[20:]), le.Uint16(p.raw[22:])
	from, security, code := c.authenticate(p, size)
	if code != 0 {
		return c.fault(p.callID, contextID, code)
	}
	if p.first() {
		c.stub, c.context, c.opnum, c.object = nil, contextID, opnum, [16]byte{}
		if p.flags&flagObject != 0 {
			copy(c.object[:], p.raw[requestSize:])
		}
	}
	c.stub = append(c.stub, p.body[size-headerSize:]...)
	if len(c.stub) > maxRequest {
		return errors.New("request is too large")
	}
	if !p.last() {
		return nil
	}
	from.object = c.object
	i := c.contexts[c.context]
	switch {
	case i == nil:
		return c.fault(p.callID, c.context, faultUnknownInterface)
	case from.level < i.level:
		return c.fault(p.callID, c.context, faultAccessDenied)
	}
	if c.caller != nil && from.account != "" {
		c.caller(from)
	}
	return c.dispatch(context.WithValue(ctx, callKey{}, from), i, p, security)
}

// authenticate opens a protected fragment and takes its padding off.
func (c *rpcConn) authenticate(p *pdu, size int) (call, *securityContext, uint32) {
	if p.trailer == nil {
		for _, s := range c.security {
			if s.done && s.level == levelConnect {
				return call{account: s.account(), mechanism: s.mechanism(), level: s.level}, s, 0
			}
		}
		return call{}, nil, 0
	}
	s := c.security[p.contextID()]
	if s == nil || !s.done {
		return call{}, nil, faultAccessDenied
	}
	end := len(p.raw) - len(p.signature)
	m := rpcMessage{
		packet: p.raw[:end], header: p.raw[:size], stub: p.body[size-headerSize:], trailer: p.trailer, headerSign: c.headerSign,
	}
	var err error
	switch s.level {
	case levelPrivacy:
		err = s.unseal(m, p.signature)
	case levelIntegrity, levelPacket:
		err = s.verify(m, p.signature)
	}
	padding := int(p.trailer[2])
	if err != nil || padding > len(m.stub) {
		return call{}, nil, faultSecurity
	}
	p.body = p.body[:len(p.body)-padding]
	return call{account: s.account(), mechanism: s.mechanism(), level: s.level}, s, 0
}

// dispatch lets the handler work and sends its answer.
func (c *rpcConn) dispatch(ctx context.Context, i *rpcInterface, p *pdu, s *securityContext) error {
	if i.faulty {
		c.ca.stall(ctx)
	}
	out, err := invoke(ctx, i.handler, int(c.opnum), c.stub, p.drep)
	if ctx.Err() != nil || errors.Is(err, errDrop) {
		return errDrop
	}
	if err != nil {
		code := faultStub
		if f, ok := errors.AsType[fault](err); ok {
			code = uint32(f)
		}
		return c.fault(p.callID, c.context, code)
	}
	return c.respond(p.callID, out, s, i.faulty && c.ca.takeFault(CorruptReply))
}

// invoke runs a generated dispatcher over foreign bytes, which may panic it.
func invoke(ctx context.Context, h dcerpc.ServerHandle, opnum int, stub []byte, drep uint32) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fault(faultStub)
		}
	}()
	op, err := h(ctx, opnum, ndr.NDR20(stub, ndr.DataRepresentation(drep)))
	switch {
	case err != nil:
		return nil, err
	case op == nil:
		return nil, fault(faultOperation)
	}
	return ndr.MarshalResponse(op)
}

// respond sends an answer in as many fragments as it needs.
func (c *rpcConn) respond(callID uint32, out []byte, s *securityContext, corrupt bool) error {
	overhead := requestSize
	protected := s != nil && s.level >= levelPacket
	if protected {
		overhead += trailerSize + s.signatureSize(s.level == levelPrivacy)
	}
	room := (c.maxTransmit - overhead) &^ 15
	for flags := flagFirst; ; flags = 0 {
		n := min(room, len(out))
		if n == len(out) {
			flags |= flagLast
		}
		p := newPDU(pduResponse, flags, callID)
		p = le.AppendUint32(p, uint32(len(out)))
		p = le.AppendUint16(p, c.context)
		p = append(append(p, 0, 0), out[:n]...)
		var signature []byte
		if protected {
			var err error
			if p, signature, err = c.protect(p, s); err != nil {
				return err
			}
			if corrupt {
				signature[len(signature)-5] ^= 0xff
			}
		}
		if _, err := c.w.Write(finish(p, signature)); err != nil {
			return err
		}
		if out = out[n:]; flags&flagLast != 0 {
			return nil
		}
	}
}

// protect pads, adds the trailer and signs or seals.
func (c *rpcConn) protect(p []byte, s *securityContext) ([]byte, []byte, error) {
	private := s.level == levelPrivacy
	padding := (16 - (len(p)-requestSize)%16) % 16
	p = append(p, make([]byte, padding)...)
	p = append(p, s.kind, s.level, byte(padding), 0)
	p = le.AppendUint32(p, s.id)
	size := s.signatureSize(private)
	le.PutUint16(p[8:], uint16(len(p)+size)) // signatures may cover the header
	le.PutUint16(p[10:], uint16(size))
	end := len(p) - trailerSize
	m := rpcMessage{packet: p, header: p[:requestSize], stub: p[requestSize:end], trailer: p[end:], headerSign: c.headerSign}
	sign := s.sign
	if private {
		sign = s.seal
	}
	signature, err := sign(m)
	if err == nil && len(signature) != size {
		err = fmt.Errorf("signature of %d octets, announced %d", len(signature), size)
	}
	return p, signature, err
}

// fault answers with a fault; the connection goes on.
func (c *rpcConn) fault(callID uint32, contextID uint16, code uint32) error {
	p := newPDU(pduFault, flagFirst|flagLast|flagNotDone, callID)
	p = le.AppendUint32(p, 0)
	p = le.AppendUint16(p, contextID)
	p = append(p, 0, 0)
	p = le.AppendUint32(p, code)
	_, err := c.w.Write(finish(append(p, 0, 0, 0, 0), nil))
	return err
}
