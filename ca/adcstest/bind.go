package adcstest

import (
	"fmt"
	"slices"
)

// bind serves bind and alter_context (C706, section 12.6.4.1-4).
func (c *rpcConn) bind(p *pdu) error {
	b, err := parseBinding(p.body)
	if err != nil {
		return err
	}
	alter := p.kind == pduAlter
	if !alter {
		// A peer that takes less than 1432 octets breaks C706, section 12.6.3.1.
		c.maxTransmit = max(1432, min(int(b.maxReceive), maxFragment))
		if c.group = b.group; c.group == 0 {
			c.group = 0x1000 + c.rpcServer.group.Add(1)
		}
		c.headerSign = p.flags&flagHeaderSign != 0
	}
	results := make([]bindResult, len(b.offers))
	for i, o := range b.offers {
		results[i] = c.choose(o)
	}
	token, trailer, err := c.signIn(p)
	if err != nil {
		return err
	}
	kind, port, flags := pduBindAck, c.port, flagFirst|flagLast
	if alter {
		kind, port = pduAlterResponse, ""
	}
	if c.headerSign {
		flags |= flagHeaderSign
	}
	out := appendBindAck(newPDU(kind, flags, p.callID), c.maxTransmit, c.group, port, results)
	if len(token) > 0 {
		trailer[2] = 0
		for len(out)%4 != 0 {
			out = append(out, 0)
			trailer[2]++
		}
		out = append(out, trailer...)
	}
	_, err = c.w.Write(finish(out, token))
	return err
}

// choose answers the offer of one presentation context.
func (c *rpcConn) choose(o offer) bindResult {
	for _, t := range o.transfers {
		if [8]byte(t[:8]) == [8]byte(featurePrefix[:8]) {
			return bindResult{result: resultNegotiateAck}
		}
	}
	i := slices.IndexFunc(c.interfaces, func(i rpcInterface) bool { return i.syntax == o.abstract })
	switch {
	case i < 0:
		return bindResult{result: resultRejection, reason: reasonAbstract}
	case !slices.Contains(o.transfers, syntaxNDR):
		return bindResult{result: resultRejection, reason: reasonTransfer}
	}
	c.contexts[o.id] = &c.interfaces[i]
	return bindResult{result: resultAcceptance, transfer: syntaxNDR}
}

// signIn takes the client's token and returns ours with its trailer. A refusal
// is told to the client and ends the connection.
func (c *rpcConn) signIn(p *pdu) (token, trailer []byte, err error) {
	if p.trailer == nil {
		return nil, nil, nil
	}
	kind, level, id := p.trailer[0], p.trailer[1], p.contextID()
	s := c.security[id]
	if s == nil || s.done {
		s = &securityContext{acceptor: c.offered.forType(kind), kind: kind, level: level, id: id}
		if s.acceptor == nil {
			const unrecognised = 8 // authentication_type_not_recognized
			nak := append(newPDU(pduBindNak, flagFirst|flagLast, p.callID), unrecognised, 0, 0)
			c.w.Write(finish(nak, nil))
			return nil, nil, fmt.Errorf("authentication type %d is not offered", kind)
		}
		c.security[id] = s
	}
	token, s.done, err = s.accept(p.signature)
	if err != nil {
		c.fault(p.callID, 0, faultAccessDenied)
		return nil, nil, err
	}
	return token, slices.Clone(p.trailer), nil
}
