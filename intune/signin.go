package intune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"go.uber.org/zap"
)

// signIn is one token request. It gets a credential of its own, because
// azidentity keeps the tokens of a credential and cannot be told to drop one;
// tokens are kept by tokens, which can. It is also azidentity's transport and
// remembers what it saw: azidentity's errors flatten the network's errors to
// text and may quote the body of an answer.
type signIn struct {
	client *Client
	ctx    context.Context // of this request, as azidentity may derive its own

	answer     *http.Response // the last answer, whose body is body
	body       []byte
	networkErr error
	localErr   error  // no assertion could be made
	assertion  string // as sent, so that it can be taken out of error texts
}

// signIn asks for a token of scope once for each certificate that Entra ID may
// know.
func (c *Client) signIn(ctx context.Context, scope string) (azcore.AccessToken, error) {
	cred := c.config.Credential
	switch {
	case cred.Secret != "":
		return c.signInWith(ctx, scope, nil)
	case cred.TokenFile != "":
		return c.signInWith(ctx, scope, func() (string, error) { return readTokenFile(cred.TokenFile) })
	}
	err := error(&AuthError{AADSTS: 700027, OAuth: "invalid_client", Description: "there is no certificate to sign in with"})
	for i, cert := range cred.Certificates() {
		var token azcore.AccessToken
		token, err = c.signInWith(ctx, scope, func() (string, error) {
			if bad := cert.check(); bad != nil {
				return "", bad
			}
			return cert.sign(c.tokenURL, c.config.ClientID, c.config.Clock())
		})
		if e, ok := errors.AsType[*AuthError](err); !ok || e.AADSTS != 700027 {
			return token, err
		}
		c.log.Warn("sign-in certificate refused", zap.Int("position", i+1),
			zap.String("serial", serialText(cert.Certificate)), zap.Error(err))
	}
	return azcore.AccessToken{}, err
}

// SignIn asks for a token for Intune unless a good one is held. A Client that
// was made for the purpose tells whether Entra ID takes a credential.
func (c *Client) SignIn(ctx context.Context) error {
	_, err := c.intuneTokens.get(ctx)
	return err
}

// signInWith makes one token request, with an assertion or else with the
// client secret.
func (c *Client) signInWith(ctx context.Context, scope string, assert func() (string, error)) (token azcore.AccessToken, err error) {
	defer c.observe(callToken, time.Now(), &err)
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Token)
	defer cancel()
	s := &signIn{client: c, ctx: ctx}
	cred, err := s.credential(assert)
	if err != nil {
		return azcore.AccessToken{}, &ProtocolError{Call: callToken, Detail: clean(err.Error(), c.secrets()...)}
	}
	token, err = cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return azcore.AccessToken{}, s.failure(err)
	}
	return token, nil
}

func (s *signIn) credential(assert func() (string, error)) (azcore.TokenCredential, error) {
	cfg := s.client.config
	options := azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: cfg.Endpoints.Authority},
		Transport: s,
		Retry:     policy.RetryOptions{MaxRetries: -1}, // tokens retries, and knows when not to
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
	if assert == nil {
		return azidentity.NewClientSecretCredential(cfg.TenantID, cfg.ClientID, cfg.Credential.Secret.Reveal(),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}
	return azidentity.NewClientAssertionCredential(cfg.TenantID, cfg.ClientID,
		func(context.Context) (string, error) {
			s.assertion, s.localErr = assert()
			return s.assertion, s.localErr
		},
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
}

// Do sends one of azidentity's requests: the metadata of the authority, then
// the token request.
func (s *signIn) Do(req *http.Request) (*http.Response, error) {
	if host := req.URL.Host; req.URL.Scheme != "https" || host != s.client.authorityHost &&
		!slices.Contains(signInHosts[s.client.authorityHost], host) {
		s.localErr = errors.New("the sign-in service sends us to a host that is not its own: " + host)
		return nil, s.localErr
	}
	req.Header.Set("User-Agent", s.client.config.Provider)
	resp, body, err := s.client.send(req, maxAnswer)
	s.answer, s.body, s.networkErr = resp, body, err
	return resp, err
}

// failure says why there is no token, from what was seen on the wire.
func (s *signIn) failure(err error) error {
	switch {
	case s.localErr != nil:
		return &AuthError{OAuth: "not sent", Description: clean(s.localErr.Error(), s.secrets()...)}
	case s.networkErr != nil || s.answer == nil && s.ctx.Err() != nil:
		return networkError(callToken, s.client.authorityHost, cmpErr(s.networkErr, s.ctx.Err()))
	case s.answer == nil || s.answer.StatusCode/100 == 2:
		return &ProtocolError{Call: callToken, Detail: clean(err.Error(), append(s.secrets(), string(s.body))...)}
	}
	return s.authError()
}

// authError reads Entra ID's answer to a token request it did not grant.
func (s *signIn) authError() error {
	var body struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		Codes         []int  `json:"error_codes"`
		CorrelationID string `json:"correlation_id"`
	}
	_ = json.Unmarshal(s.body, &body) // a proxy may answer with a page of its own: the status must do
	e := &AuthError{
		OAuth:         clean(body.Error),
		Status:        s.answer.StatusCode,
		CorrelationID: clean(body.CorrelationID),
		After:         retryAfter(s.answer.Header, s.client.config.Clock()),
	}
	if len(body.Codes) > 0 {
		e.AADSTS = body.Codes[0]
	} else {
		_, _ = fmt.Sscanf(body.Description, "AADSTS%d", &e.AADSTS) // 0 when it is not there
	}
	// The first line is the message; trace ID, correlation ID and time follow.
	words, _, _ := strings.Cut(body.Description, "\n")
	e.Description = clean(words, s.secrets()...)
	e.Retryable = e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500 ||
		e.OAuth == "temporarily_unavailable" || e.AADSTS == 90033 || e.AADSTS == 90006
	if e.AADSTS == 50196 {
		e.Retryable, e.After = true, max(e.After, 5*time.Minute)
	}
	return e
}

// secrets are texts that must not be repeated from a sign-in's answers.
func (s *signIn) secrets() []string {
	if s.assertion == "" {
		return s.client.secrets()
	}
	return append(s.client.secrets(), s.assertion)
}

// cmpErr returns the first error that is one.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
