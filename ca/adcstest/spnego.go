package adcstest

import (
	"encoding/asn1"
	"errors"
	"fmt"
)

var (
	oidSPNEGO     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	oidKerberos   = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	oidMSKerberos = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2} // with Microsoft's mistake of a bit
	oidNTLM       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
)

// negTokenInit and negTokenResp are those of RFC 4178, section 4.2.
type negTokenInit struct {
	Mechs []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
	Flags asn1.BitString          `asn1:"explicit,optional,tag:1"`
	Token []byte                  `asn1:"explicit,optional,tag:2"`
	MIC   []byte                  `asn1:"explicit,optional,tag:3"`
}

type negTokenResp struct {
	State asn1.Enumerated       `asn1:"explicit,optional,tag:0,default:-1"`
	Mech  asn1.ObjectIdentifier `asn1:"explicit,optional,tag:1"`
	Token []byte                `asn1:"explicit,optional,tag:2"`
	MIC   []byte                `asn1:"explicit,optional,tag:3"`
}

// spnegoAcceptor negotiates NTLM or Kerberos. It takes the first mechanism of
// the client's list and wants its token along with it.
type spnegoAcceptor struct {
	offered  acceptors
	acceptor // once chosen
	mech     asn1.ObjectIdentifier
	list     []byte
}

func (s *spnegoAcceptor) accept(token []byte) ([]byte, bool, error) {
	var in, mic []byte
	var err error
	if s.acceptor == nil {
		in, err = s.choose(token)
	} else {
		var r negTokenResp
		_, err = asn1.UnmarshalWithParams(token, &r, "explicit,tag:1")
		in, mic = r.Token, r.MIC
	}
	if err != nil {
		return nil, false, fmt.Errorf("negotiating: %v", err)
	}
	out, done, err := s.acceptor.accept(in)
	if err != nil {
		return nil, false, err
	}
	const completed, incomplete = 0, 1
	reply := negTokenResp{State: incomplete, Token: out, Mech: s.mech}
	if done {
		reply.State, reply.Mech = completed, nil
		if m, ok := s.acceptor.(interface {
			listMIC(list, mic []byte) ([]byte, error)
		}); ok && len(mic) > 0 {
			if reply.MIC, err = m.listMIC(s.list, mic); err != nil {
				return nil, false, err
			}
		}
	}
	b, err := asn1.MarshalWithParams(reply, "explicit,tag:1")
	return b, done, err
}

// choose reads the first token and returns the mechanism's own.
func (s *spnegoAcceptor) choose(token []byte) ([]byte, error) {
	var frame asn1.RawValue
	if _, err := asn1.Unmarshal(token, &frame); err != nil || frame.Class != asn1.ClassApplication {
		return nil, errors.New("not an initial token")
	}
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(frame.Bytes, &oid)
	if err != nil || !oid.Equal(oidSPNEGO) {
		return nil, errors.New("initial token of another mechanism")
	}
	var init negTokenInit
	if _, err := asn1.UnmarshalWithParams(rest, &init, "explicit,tag:0"); err != nil {
		return nil, err
	}
	if len(init.Mechs) == 0 {
		return nil, errors.New("no mechanisms")
	}
	s.mech = init.Mechs[0]
	if s.list, err = asn1.Marshal(init.Mechs); err != nil {
		return nil, err
	}
	switch {
	case s.mech.Equal(oidNTLM) && s.offered.ntlm != nil:
		s.acceptor = s.offered.ntlm()
	case (s.mech.Equal(oidKerberos) || s.mech.Equal(oidMSKerberos)) && s.offered.kerberos != nil:
		s.acceptor = s.offered.kerberos()
	default:
		return nil, fmt.Errorf("mechanism %v is not offered", s.mech)
	}
	return init.Token, nil
}
