package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Media types of RFC 2585, section 4.
const (
	mediaTypeCRL  = "application/pkix-crl"
	mediaTypeCert = "application/pkix-cert"
)

// DistributionConfig describes a Distribution.
type DistributionConfig struct {
	CAs []*CA // of different names; required
	// MaxAge is how long a cache on the way may keep a list, which delays the
	// news of a revocation for those who ask it; 0: 5 minutes. A list that
	// ends sooner is kept until then.
	MaxAge time.Duration
	Log    *zap.Logger // nil: none
}

// Distribution serves by HTTP what relying parties need of CAs: the revocation
// list, the delta list where one is made, and the CA certificate. Each has the
// paths of its addresses in the CA's Config, and below /crl/ the CA's name with
// ".crl", "+.crl" and ".cer".
//
// Lists are made by Run alone, never by a request. Serve them over plain HTTP:
// they are signed, and whoever checks the server's own certificate would need
// the list first (RFC 5280, section 8).
type Distribution struct {
	cas    []*CA
	maxAge time.Duration
	log    *zap.Logger
	paths  map[string]file
}

// file is what one path serves.
type file struct {
	ca   *CA
	kind fileKind
}

type fileKind string

const (
	fullFile  fileKind = "revocation list"
	deltaFile fileKind = "delta revocation list"
	certFile  fileKind = "certificate"
)

const (
	defaultMaxAge = 5 * time.Minute
	// settle is how long Run waits after a revocation for further ones: a
	// hundred stolen devices are one list.
	settle = time.Second
)

// NewDistribution reads the paths from the CAs' addresses. Two that want the
// same path are an error.
func NewDistribution(cfg DistributionConfig) (*Distribution, error) {
	d := &Distribution{cas: slices.Clone(cfg.CAs), maxAge: cfg.MaxAge, log: cfg.Log, paths: map[string]file{}}
	if d.maxAge <= 0 {
		d.maxAge = defaultMaxAge
	}
	if d.log == nil {
		d.log = zap.NewNop()
	}
	var errs []error
	for _, c := range cfg.CAs {
		errs = append(errs,
			d.claim(file{c, fullFile}, "/crl/"+c.name+".crl", c.crlURLs),
			d.claim(file{c, certFile}, "/crl/"+c.name+".cer", c.issuerURLs))
		if c.makesDeltas {
			errs = append(errs, d.claim(file{c, deltaFile}, "/crl/"+c.name+"+.crl", c.deltaURLs))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

// claim takes a path of its own and those of addresses. An address with ldap,
// or without a path, is for somebody else to serve.
func (d *Distribution) claim(f file, path string, addresses []string) error {
	wanted := []string{path}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			return fmt.Errorf("address of CA %q: %w", f.ca.name, err)
		}
		if (u.Scheme == "http" || u.Scheme == "https") && u.Path != "" && u.Path != "/" {
			wanted = append(wanted, u.Path)
		}
	}
	for _, p := range wanted {
		if other, taken := d.paths[p]; taken && other != f {
			return fmt.Errorf("path %q is for the %s of CA %q and for the %s of CA %q: give them different addresses",
				p, other.kind, other.ca.name, f.kind, f.ca.name)
		}
		d.paths[p] = f
	}
	return nil
}

// Serves says whether a request's decoded path is one of a list or certificate.
func (d *Distribution) Serves(path string) bool {
	_, ok := d.paths[path]
	return ok
}

// Paths returns the paths served, sorted.
func (d *Distribution) Paths() []string {
	paths := make([]string, 0, len(d.paths))
	for p := range d.paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// ServeHTTP answers GET and HEAD, also conditional. Before the first list is
// made it is 503, and a list that has ended is served on: a relying party then
// says that the list is old rather than that there is none.
func (d *Distribution) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := d.paths[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if f.kind == certFile {
		w.Header().Set("Content-Type", mediaTypeCert)
		d.serve(w, r, f.ca, f.ca.cert.Raw, f.ca.cert.NotBefore, f.ca.cert.NotAfter)
		return
	}
	current := f.ca.published.Load()
	if current == nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(lookAgain.Seconds())))
		http.Error(w, "the revocation list is not ready", http.StatusServiceUnavailable)
		return
	}
	l := current.full
	if f.kind == deltaFile {
		l = current.delta
	}
	w.Header().Set("Content-Type", mediaTypeCRL)
	d.serve(w, r, f.ca, l.der, l.thisUpdate, l.nextUpdate)
}

// serve sets what caches need to know; http.ServeContent does the rest.
func (d *Distribution) serve(w http.ResponseWriter, r *http.Request, c *CA, der []byte, made, ends time.Time) {
	now := c.clock()
	setFreshness(w.Header(), der, now, earliest(now.Add(d.maxAge), ends))
	http.ServeContent(w, r, "", made, bytes.NewReader(der))
}

// setFreshness says how long a cache may keep an answer.
func setFreshness(h http.Header, der []byte, now, until time.Time) {
	sum := sha256.Sum256(der)
	age := max(0, int(until.Sub(now).Seconds()))
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Expires", until.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "public, no-transform, must-revalidate, max-age="+strconv.Itoa(age))
}

// Run makes the lists of all CAs, at once, after each revocation and when
// their time has come, until the context ends. A CA that cannot sign is tried
// again each minute; what it made before is served meanwhile.
func (d *Distribution) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, c := range d.cas {
		running.Go(func() { d.keep(ctx, c) })
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

// keep makes the lists of one CA.
func (d *Distribution) keep(ctx context.Context, c *CA) {
	news, stop := c.news()
	defer stop()
	log := d.log.With(zap.String("ca", c.name))
	failed := false
	for {
		before := c.published.Load()
		current, err := c.currentLists(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if !failed {
				log.Error("revocation list not made; the last one is served", zap.Error(err), zap.Time("ends", before.ends()))
			}
			failed = true
		case err == nil && current != before:
			log.Info("revocation list made", zap.Int64("number", current.full.number), zap.Int("entries", len(current.entries)),
				zap.Time("ends", current.ends()))
			fallthrough
		case err == nil:
			failed = false
		}
		again := time.NewTimer(lookAgain + time.Second) // a second more than the CA itself waits
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
			continue
		case <-news:
			again.Reset(settle)
		}
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}

// ends is when the full list does; zero where there is none.
func (l *lists) ends() time.Time {
	if l == nil {
		return time.Time{}
	}
	return l.full.nextUpdate
}
