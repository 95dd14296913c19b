package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// UnknownSerial says what a responder answers for a serial number that its CA
// never issued.
type UnknownSerial string

// "unknown" has a relying party look elsewhere; "revoked" has it refuse the
// certificate, which somebody else must have made with the CA's key (RFC 6960,
// section 2.2).
const (
	AnswerUnknown UnknownSerial = "unknown"
	AnswerRevoked UnknownSerial = "revoked"
)

// ResponderConfig describes a Responder.
type ResponderConfig struct {
	CAs  []*CA  // told apart by name and key; required
	Path string // where requests are taken, besides the paths of the CAs' OCSPURLs; "": "/ocsp"

	Store          SignerStore   // keeps the signers over a restart; nil: new ones at each start
	SignerValidity time.Duration // life of a signer's certificate, at least an hour; 0: 7 days
	// Validity is how long a relying party may keep a response; at least a
	// minute; 0: an hour. It is how long a revocation may go unnoticed.
	Validity time.Duration
	// Keep is how long a response is given to others who ask the same; 0: a
	// minute. A revocation by this process is answered at once all the same,
	// one by another machine with the same register after this time.
	Keep time.Duration
	// MaxKept bounds the responses that are kept for one CA; 0: 2,000, which
	// take about 4 MiB.
	MaxKept int
	Unknown UnknownSerial // "": AnswerUnknown

	Log *zap.Logger // nil: none
}

// Responder answers for CAs by OCSP (RFC 6960, and RFC 5019 where no nonce is
// sent) with keys of their own: a CA's key signs the short-lived certificate
// of its signer, never a response.
type Responder struct {
	cfg     ResponderConfig
	log     *zap.Logger
	paths   []ocspPath
	desks   []*ocspDesk
	issuers map[issuerID]*ocspDesk
	signing chan struct{} // one slot for each signature at a time
	logged  atomic.Int64  // when a request that failed was logged last, Unix seconds
}

// issuerID is how a request names a CA.
type issuerID struct {
	hash      int
	name, key string
}

// ocspDesk is what the responder has of one CA.
type ocspDesk struct {
	ca    *CA
	cache *ocspCache

	mu     sync.Mutex // guards signer; not held while one is made
	signer *ocspSigner
	making sync.Mutex // one signer is made at a time
}

const (
	defaultOCSPValidity = time.Hour
	defaultOCSPKeep     = time.Minute
	defaultOCSPKept     = 2000
	defaultOCSPPath     = "/ocsp"
	// waitToSign is how long a request waits for its turn. Clients give up
	// after 5 to 15 seconds.
	waitToSign = 4 * time.Second
)

// NewResponder checks the configuration. It makes no signer: Renew or Run does.
func NewResponder(cfg ResponderConfig) (*Responder, error) {
	cfg.Path = cmp.Or(cfg.Path, defaultOCSPPath)
	cfg.SignerValidity = cmp.Or(cfg.SignerValidity, defaultSignerValidity)
	cfg.Validity = cmp.Or(cfg.Validity, defaultOCSPValidity)
	cfg.Keep = cmp.Or(cfg.Keep, min(defaultOCSPKeep, cfg.Validity))
	cfg.MaxKept = cmp.Or(cfg.MaxKept, defaultOCSPKept)
	cfg.Unknown = cmp.Or(cfg.Unknown, AnswerUnknown)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	r := &Responder{
		cfg: cfg, log: cfg.Log, issuers: map[issuerID]*ocspDesk{},
		signing: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
	}
	if r.log == nil {
		r.log = zap.NewNop()
	}
	if err := r.claimPaths(cfg.CAs); err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	for _, c := range cfg.CAs {
		desk := &ocspDesk{ca: c, cache: newOCSPCache(cfg.MaxKept)}
		if err := r.open(desk); err != nil {
			return nil, err
		}
		r.desks = append(r.desks, desk)
	}
	for _, desk := range r.desks {
		desk.ca.watch(desk.cache.forget) // for as long as the CA lives
	}
	return r, nil
}

func (cfg ResponderConfig) check() error {
	var errs []error
	if cfg.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("path %q does not begin with /", cfg.Path))
	}
	if cfg.Validity < time.Minute {
		errs = append(errs, fmt.Errorf("responses of %v are of no use, at least a minute", cfg.Validity))
	}
	if cfg.Keep < 0 || cfg.Keep > cfg.Validity {
		errs = append(errs, fmt.Errorf("responses are valid for %v and cannot be kept for %v", cfg.Validity, cfg.Keep))
	}
	if cfg.SignerValidity < minSignerValidity || cfg.SignerValidity < 3*cfg.Validity {
		errs = append(errs, fmt.Errorf("a signer's life of %v is too short: at least %v and three times that of a response", cfg.SignerValidity, minSignerValidity))
	}
	if cfg.MaxKept < 0 {
		errs = append(errs, errors.New("the number of responses to keep is negative"))
	}
	if cfg.Unknown != AnswerUnknown && cfg.Unknown != AnswerRevoked {
		errs = append(errs, fmt.Errorf("answer %q for an unknown serial number: want unknown or revoked", cfg.Unknown))
	}
	return errors.Join(errs...)
}

// open notes by which digests requests name the CA.
func (r *Responder) open(desk *ocspDesk) error {
	key, err := keyBits(desk.ca.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("CA %q: %w", desk.ca.name, err)
	}
	for _, h := range ocspHashes {
		digest := func(b []byte) string {
			d := h.hash.New()
			d.Write(b)
			return string(d.Sum(nil))
		}
		id := issuerID{int(h.hash), digest(desk.ca.cert.RawSubject), digest(key)}
		if other := r.issuers[id]; other != nil {
			return fmt.Errorf("CAs %q and %q have one name and key: requests cannot tell them apart", other.ca.name, desk.ca.name)
		}
		r.issuers[id] = desk
	}
	return nil
}

// status asks the register. The CA's own self-signed certificate, which some
// clients ask about, is not in it.
func (r *Responder) status(ctx context.Context, desk *ocspDesk, req ocspRequest) (certStatus, error) {
	row, err := desk.ca.register.Certificate(ctx, desk.ca.name, req.serial)
	switch {
	case err == nil:
		return certStatus{known: true, revoked: row.Revoked, at: row.RevokedAt, reason: row.Reason}, nil
	case !errors.Is(err, ca.ErrNotFound):
		return certStatus{}, fmt.Errorf("reading the register: %w", err)
	case len(desk.ca.chain) == 1 && desk.ca.cert.SerialNumber.Cmp(req.serial) == 0:
		return certStatus{known: true}, nil
	case r.cfg.Unknown == AnswerRevoked:
		return neverIssued, nil
	}
	return certStatus{}, nil
}

// errTryLater is for want of a signer or of time.
var errTryLater = errors.New("try later")

// answer returns the response to a request: kept, or signed now.
func (r *Responder) answer(ctx context.Context, desk *ocspDesk, req ocspRequest) (ocspEntry, error) {
	now := desk.ca.clock().UTC().Truncate(time.Second)
	kept, ok, age := desk.cache.get(req.id, now)
	signer := desk.current()
	if !signer.usable(now) {
		return ocspEntry{}, errTryLater
	}
	if ok && req.nonce == nil && kept.signer == signer {
		return kept, nil
	}
	turn := time.NewTimer(waitToSign)
	defer turn.Stop()
	select {
	case r.signing <- struct{}{}:
		defer func() { <-r.signing }()
	case <-turn.C:
		return ocspEntry{}, errTryLater
	case <-ctx.Done():
		return ocspEntry{}, errTryLater
	}
	status, err := r.status(ctx, desk, req)
	if err != nil {
		return ocspEntry{}, err
	}
	e := ocspEntry{
		thisUpdate: now, signer: signer,
		nextUpdate: earliest(now.Add(r.cfg.Validity), signer.cert.NotAfter), until: now.Add(r.cfg.Keep),
	}
	e.der, err = signer.sign(ocspAnswer{id: req.id, status: status, thisUpdate: now, nextUpdate: e.nextUpdate, nonce: req.nonce})
	if err == nil && req.nonce == nil && status.known && !status.neverMade {
		desk.cache.put(req.id, req.serial, e, age) // what does not exist is asked for once, or by an attacker
	}
	return e, err
}

// issuerOf finds the CA that a request names.
func (r *Responder) issuerOf(req ocspRequest) *ocspDesk {
	return r.issuers[issuerID{int(req.hash), string(req.name), string(req.key)}]
}

// current is the signer in use; nil before the first.
func (d *ocspDesk) current() *ocspSigner {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.signer
}
