package adcstest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The kinds of authentication of the SOAP face, as the addresses of the real
// services name them.
const (
	SOAPUser        = "UsernamePassword"
	SOAPCertificate = "Certificate"
	SOAPKerberos    = "Kerberos"
)

// soapKinds are the numbers of clientAuthentication ([MS-XCEP], section
// 3.1.4.1.3.5).
var soapKinds = map[string]int{SOAPKerberos: 2, SOAPUser: 4, SOAPCertificate: 8}

// SOAPFault is a way in which the SOAP face alone goes wrong; the faults of
// Fail it shows too: CorruptReply cuts the reply in the middle.
type SOAPFault int

// The faults of SOAP.Fail. They strike the enrolment service, but for the last.
const (
	WrongRelatesTo  SOAPFault = iota // answers another message
	WrongAction                      // the reply's action is not that of a token reply
	OtherRequestID                   // the reply carries another request's ID
	OnlyCMC                          // the certificate comes in the CMC response alone
	EndlessReply                     // the reply is longer than anybody reads
	DeepReply                        // the reply nests elements very deep
	DocumentType                     // the reply has a document type with entities
	Redirect                         // HTTP status 302 to another host
	BareUnavailable                  // HTTP status 503 without SOAP, from a proxy
	InternalFault                    // WCF's InternalServiceFault after the CA has issued
	PolicyDown                       // the policy service answers 500 without SOAP
)

// SOAPOptions describe the face of the enrolment web services.
type SOAPOptions struct {
	Keytab    string         // of HTTP/host, for Kerberos; "": without Kerberos
	NTLM      bool           // in the place of Kerberos
	ClientCAs *x509.CertPool // issue client certificates; nil: the CA itself
	// NotChanged answers policiesNotChanged to who names a time.
	NotChanged bool
	// NextUpdateHours of the policy; 0: nil.
	NextUpdateHours int
	// DeadFirst names a CES address of better priority where nobody listens.
	DeadFirst bool
}

// SOAP is the face of the certificate enrolment policy service (CEP) and the
// certificate enrolment service (CES): [MS-XCEP], [MS-WSTEP].
type SOAP struct {
	URL   string // https://127.0.0.1:port
	Roots *x509.CertPool

	ca      *CA
	options SOAPOptions
	http    *http.Server
	done    chan struct{}

	mu       sync.Mutex
	faults   map[SOAPFault]int
	requests []string
}

// ServeSOAP starts both services, for each kind of authentication, on a port
// of 127.0.0.1.
func (c *CA) ServeSOAP(o SOAPOptions) (*SOAP, error) {
	pair, err := c.webCertificate()
	if err != nil {
		return nil, err
	}
	kerberos, err := newWebGate(c, WebAuth{Keytab: o.Keytab, NTLMInNegotiate: o.NTLM}, pair.Leaf.Raw)
	if err != nil {
		return nil, err
	}
	certificate, err := newWebGate(c, WebAuth{ClientCertificate: true}, pair.Leaf.Raw)
	if err != nil {
		return nil, err
	}
	if o.ClientCAs == nil {
		o.ClientCAs = x509.NewCertPool()
		o.ClientCAs.AddCert(c.cert)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: o.ClientCAs,
	})
	if err != nil {
		return nil, err
	}
	s := &SOAP{
		URL: "https://" + listener.Addr().String(), Roots: x509.NewCertPool(),
		ca: c, options: o, done: make(chan struct{}), faults: map[SOAPFault]int{},
	}
	s.Roots.AddCert(pair.Leaf)
	mux := http.NewServeMux()
	for kind, service := range map[string]func(w http.ResponseWriter, r *http.Request, account string){"CEP": s.policy, "CES": s.enroll} {
		mux.HandleFunc("POST "+s.path(kind, SOAPUser), func(w http.ResponseWriter, r *http.Request) { service(w, r, "") })
		mux.Handle("POST "+s.path(kind, SOAPKerberos), kerberos.guard(service))
		mux.Handle("POST "+s.path(kind, SOAPCertificate), certificate.guard(service))
	}
	s.http = &http.Server{
		Handler: mux, ConnContext: kerberos.connContext,
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("SOAP face: %v", err))
		}
	}()
	return s, nil
}

// path is where a service is for a kind of authentication.
func (s *SOAP) path(service, kind string) string {
	name := "ADPolicyProvider"
	if service == "CES" {
		name = strings.ReplaceAll(sanitize(s.ca.name), " ", "%20")
	}
	return "/" + name + "_" + service + "_" + kind + "/service.svc/" + service
}

// Policy is the address of the policy service for a kind of authentication.
func (s *SOAP) Policy(kind string) string { return s.URL + s.path("CEP", kind) }

// Enrollment is the address of the enrolment service.
func (s *SOAP) Enrollment(kind string) string { return s.URL + s.path("CES", kind) }

// Close ends the server and its connections.
func (s *SOAP) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Fail makes the next answers go wrong, so many of them; negative: all.
func (s *SOAP) Fail(mode SOAPFault, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[mode] = times
}

func (s *SOAP) take(mode SOAPFault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.faults[mode]
	if left > 0 {
		s.faults[mode]--
	}
	return left != 0
}

// Requests are the actions of the messages that came, oldest first.
func (s *SOAP) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

func (s *SOAP) note(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, action)
}
