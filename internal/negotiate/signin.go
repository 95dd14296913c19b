package negotiate

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/certconnector/certconnector/internal/sspi"
)

// send carries out a request as its mechanism has it. The request goes out
// once, and once more only after an answer of 401, which tells that the server
// did not look at it.
func (t *Transport) send(a *attempt) (*http.Response, error) {
	if err := a.s.prepare(a.req.Context(), t.address); err != nil {
		return nil, notSent(err)
	}
	switch {
	case t.tickets != nil:
		return t.sendKerberos(a)
	case t.config.SSPI != nil && !t.config.SSPI.NTLM:
		return t.sendSSPI(a)
	case t.config.NTLM != nil, t.config.SSPI != nil:
		return t.sendNTLM(a)
	case t.config.Basic != nil:
		return t.sendBasic(a)
	}
	return a.do("", a.body)
}

func (t *Transport) sendBasic(a *attempt) (*http.Response, error) {
	var h http.Request
	h.Header = http.Header{}
	h.SetBasicAuth(t.config.Basic.User, t.config.Basic.Password.Reveal())
	resp, err := a.do(h.Header.Get("Authorization"), a.body)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.hold()
	}
	return resp, err
}

// sendKerberos sends a ticket along at once. One that is refused, as after a
// change of the service's key, is replaced once.
func (t *Transport) sendKerberos(a *attempt) (*http.Response, error) {
	for again := false; ; again = true {
		ticket, err := t.tickets.get(a.req.Context(), again)
		if err != nil {
			if errors.Is(err, ErrRefused) {
				t.hold()
			}
			return nil, notSent(err)
		}
		authorization, err := ticket.header(bindingOf(a.s.certificate()))
		if err != nil {
			return nil, notSent(fmt.Errorf("kerberos: %w", err))
		}
		resp, err := a.do(authorization, a.body)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || again {
			return resp, err
		}
		drain(resp)
	}
}

// sendSSPI sends along what Windows makes of a ticket that it keeps itself.
func (t *Transport) sendSSPI(a *attempt) (*http.Response, error) {
	authorization, err := t.config.SSPI.header(a.req.Context(), t.spn, a.s.certificate())
	if err != nil {
		if errors.Is(err, sspi.ErrRefused) {
			t.hold()
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil, notSent(err)
	}
	return a.do(authorization, a.body)
}

// sendNTLM uses a connection that is signed in, or signs one in: two messages
// without the body, the third with it ([MS-NTHT] 3.1.5.1).
func (t *Transport) sendNTLM(a *attempt) (*http.Response, error) {
	if a.s.isSignedIn() {
		resp, err := a.do("", a.body)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		drain(resp) // the server forgot us, or the connection was a new one
		a.s.signIn(nil)
	}
	// The server may close a connection between the messages; they begin anew
	// once.
	for again := false; ; again = true {
		if err := a.s.prepare(a.req.Context(), t.address); err != nil {
			return nil, notSent(err)
		}
		talk := t.newDialogue()
		scheme, challenge, resp, err := t.askNTLM(a, talk)
		if err != nil || resp != nil {
			return resp, err
		}
		conn := a.s.connection()
		message, err := talk.authenticate(a.req.Context(), challenge, t.spn, a.s.certificate())
		if err != nil {
			return nil, notSent(err)
		}
		resp, err = a.do(authorization(scheme, message), a.body)
		if err != nil {
			return nil, err
		}
		same := conn != nil && conn == a.s.connection()
		switch {
		case resp.StatusCode != http.StatusUnauthorized:
			if same {
				a.s.signIn(conn)
			}
			return resp, nil
		case same || again:
			t.hold()
			return resp, nil
		}
		drain(resp)
	}
}

// askNTLM sends the first message and returns the server's challenge. A
// response comes back instead when the server does not offer NTLM (401) or did
// not ask who we are.
func (t *Transport) askNTLM(a *attempt, talk dialogue) (scheme string, challenge []byte, done *http.Response, err error) {
	scheme = t.scheme.Load().(string)
	for again := false; ; again = true {
		message, err := talk.negotiate(a.req.Context(), t.spn, a.s.certificate())
		if err != nil {
			return "", nil, nil, notSent(err)
		}
		resp, err := a.do(authorization(scheme, message), nil)
		if err != nil {
			return "", nil, nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			if len(a.body) == 0 {
				return "", nil, resp, nil
			}
			drain(resp)
			resp, err = a.do("", a.body)
			return "", nil, resp, err
		}
		if challenge := offered(resp.Header, scheme); len(challenge) > 0 {
			drain(resp)
			t.scheme.Store(scheme)
			return scheme, challenge, nil, nil
		}
		if again {
			return "", nil, resp, nil
		}
		drain(resp)
		// IIS may offer NTLM inside Negotiate alone.
		scheme = map[string]string{"NTLM": "Negotiate", "Negotiate": "NTLM"}[scheme]
	}
}
