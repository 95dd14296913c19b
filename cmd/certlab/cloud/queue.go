package cloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
)

// QueueOptions say what queue of issuance jobs to serve.
type QueueOptions struct {
	Address        string // loopback; "": a free port
	ControlAddress string // loopback; "": a free port

	StateFile   string // keeps the queue across kills; "": memory only
	RootFile    string // gets the queue's certificate, PEM; "": none
	Certificate string // PEM file with the client certificates that are served; it may appear later. "": nobody is

	CoolDown time.Duration // after a download; 0: none
	Lease    time.Duration // until a job without a result is offered again; 0: 10 minutes
}

// QueueInfo says where the queue is.
type QueueInfo struct {
	URL     string `json:"url"`
	Control string `json:"control"`
	RootPEM string `json:"root_pem"`
}

// queue serves a simulated queue and its control API.
type queue struct {
	*jobqueuetest.Queue
	info    QueueInfo
	servers []*http.Server
	allowed []*x509.Certificate
	done    sync.WaitGroup
}

func startQueue(o QueueOptions) (*queue, error) {
	q := &queue{}
	var err error
	if q.Queue, err = jobqueuetest.New(jobqueuetest.Options{Lease: o.Lease, CoolDown: o.CoolDown, StateFile: o.StateFile}); err != nil {
		return nil, err
	}
	server, err := queueCertificate()
	if err == nil {
		q.info.RootPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate[0]}))
		err = q.listen(o, server)
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

// listen serves jobs over mutual TLS, and the control API.
func (q *queue) listen(o QueueOptions, server tls.Certificate) error {
	for _, s := range []struct {
		address string
		handler http.Handler
		tls     *tls.Config
		at      *string
		url     [2]string
	}{
		{o.Address, q.Queue, jobqueuetest.TLSConfig(server), &q.info.URL, [2]string{"https://", "/jobs/"}},
		{o.ControlAddress, q.control(), nil, &q.info.Control, [2]string{"http://", "/control/"}},
	} {
		if s.address == "" {
			s.address = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", s.address)
		if err != nil {
			return err
		}
		*s.at = s.url[0] + l.Addr().String() + s.url[1]
		if s.tls != nil {
			l = tls.NewListener(l, s.tls)
		}
		h := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		q.servers = append(q.servers, h)
		q.done.Go(func() { _ = h.Serve(l) }) // it ends when it is closed
	}
	return nil
}

func (q *queue) close() error {
	var errs []error
	for _, s := range q.servers {
		errs = append(errs, s.Close())
	}
	q.done.Wait()
	return errors.Join(append(errs, q.Close())...)
}

// serveOnly serves these client certificates and no others.
func (q *queue) serveOnly(certs []*x509.Certificate) {
	for _, c := range q.allowed {
		q.Forbid(c)
	}
	for _, c := range certs {
		q.Allow(c)
	}
	q.allowed = certs
}

// control is the queue's control API, for the loopback interface.
//
//	POST   /control/jobs           [Job]
//	GET    /control/results        Result by context
//	GET    /control/waiting        contexts without a final result
//	GET    /control/contradictions [Contradiction]
//	GET    /control/counts         Counts
//	POST   /control/offer          all leases end now
//	POST   /control/faults         Faults
//	DELETE /control/faults         no faults any more
func (q *queue) control() http.Handler {
	mux := http.NewServeMux()
	tell := func(path string, of func() any) {
		mux.HandleFunc("GET /control/"+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, of()) })
	}
	tell("results", func() any { return q.Results() })
	tell("waiting", func() any { return append([]string{}, q.Waiting()...) })
	tell("contradictions", func() any { return append([]jobqueuetest.Contradiction{}, q.Contradictions()...) })
	tell("counts", func() any { return q.Counts() })
	mux.HandleFunc("POST /control/jobs", order(func(jobs []jobqueuetest.Job) error {
		for _, j := range jobs {
			if j.RequestContext == "" {
				return errors.New("a job has no requestContext")
			}
		}
		return q.Add(jobs...)
	}))
	mux.HandleFunc("POST /control/offer", order(func(struct{}) error { q.Offer(); return nil }))
	mux.HandleFunc("POST /control/faults", order(func(f jobqueuetest.Faults) error { q.Fail(f); return nil }))
	mux.HandleFunc("DELETE /control/faults", order(func(struct{}) error { q.Fail(jobqueuetest.Faults{}); return nil }))
	return mux
}

// order carries out an order whose body is JSON, or empty.
func order[T any](do func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o T
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err == nil {
			err = do(o)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]bool{"done": true})
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who asked has gone
}

// queueCertificate is a server certificate that is its own root.
func queueCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "simulated queue of jobs"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "simulated queue of jobs"}}, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
