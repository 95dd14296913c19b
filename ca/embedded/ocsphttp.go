package embedded

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	mediaTypeOCSPRequest  = "application/ocsp-request"
	mediaTypeOCSPResponse = "application/ocsp-response"
)

// ocspPath is a path at which requests are taken, without a slash at its end.
type ocspPath struct{ plain, escaped string }

// claimPaths takes the configured path and those of the CAs' addresses, the
// longest first.
func (r *Responder) claimPaths(cas []*CA) error {
	wanted := []string{r.cfg.Path}
	for _, c := range cas {
		for _, a := range c.ocspURLs {
			u, err := url.Parse(a)
			if err != nil {
				return fmt.Errorf("address of CA %q: %w", c.name, err)
			}
			if u.Scheme == "http" || u.Scheme == "https" {
				wanted = append(wanted, u.Path)
			}
		}
	}
	for _, w := range wanted {
		plain := strings.TrimRight(w, "/")
		r.paths = append(r.paths, ocspPath{plain, (&url.URL{Path: plain}).EscapedPath()})
	}
	slices.SortFunc(r.paths, func(a, b ocspPath) int {
		return cmp.Or(cmp.Compare(len(b.plain), len(a.plain)), strings.Compare(a.plain, b.plain))
	})
	r.paths = slices.Compact(r.paths)
	return nil
}

// Serves says whether a request's decoded path is the responder's: one of its
// paths, or below it what may be a request in base64, which begins with "M".
// Other faces of a listener come first where an address has no path. Do not
// put the responder behind an http.ServeMux: that redirects paths with "//",
// which base64 has.
func (r *Responder) Serves(path string) bool {
	return slices.ContainsFunc(r.paths, func(p ocspPath) bool {
		rest, ok := strings.CutPrefix(path, p.plain)
		if !ok || rest != "" && rest[0] != '/' {
			return false
		}
		rest = strings.TrimLeft(rest, "/")
		return rest == "" || rest[0] == 'M'
	})
}

// ServeHTTP answers POST with a request as body, and GET with a request in
// base64 behind the path (RFC 6960, appendix A.1).
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var der []byte
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		var err error
		if der, err = r.inPath(req.URL); err != nil {
			r.refuse(w, ocspMalformed)
			return
		}
	case http.MethodPost:
		kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
		if err != nil || kind != mediaTypeOCSPRequest {
			http.Error(w, "the body must be "+mediaTypeOCSPRequest, http.StatusUnsupportedMediaType)
			return
		}
		if der, err = io.ReadAll(http.MaxBytesReader(w, req.Body, maxOCSPRequest)); err != nil {
			code := http.StatusBadRequest
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				code = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "the request cannot be read", code)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	r.respond(w, req, der)
}

// respond answers an OCSP request, however it came. Clients want 200 and the
// media type also of a response without a status.
func (r *Responder) respond(w http.ResponseWriter, req *http.Request, der []byte) {
	parsed, err := parseOCSPRequest(der)
	if err != nil {
		r.refuse(w, ocspMalformed)
		return
	}
	// A CA that is not ours, or one that is named by a digest we do not know.
	desk := r.issuerOf(parsed)
	if desk == nil {
		r.refuse(w, ocspUnauthorized)
		return
	}
	e, err := r.answer(req.Context(), desk, parsed)
	if err != nil {
		if req.Context().Err() == nil && !errors.Is(err, errTryLater) && r.mayLog(desk.ca.clock()) {
			r.log.Error("OCSP requests not answered; this is said once a minute", zap.String("ca", desk.ca.name), zap.Error(err))
		}
		r.refuse(w, ocspTryLater)
		return
	}
	w.Header().Set("Content-Type", mediaTypeOCSPResponse)
	if req.Method == http.MethodPost || parsed.nonce != nil {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(e.der) // a client that has gone needs no answer
		return
	}
	// RFC 5019, section 6.2.
	setFreshness(w.Header(), e.der, desk.ca.clock(), e.until)
	http.ServeContent(w, req, "", e.thisUpdate, bytes.NewReader(e.der))
}

// mayLog lets one line a minute through: strangers decide how often they ask.
func (r *Responder) mayLog(now time.Time) bool {
	last, this := r.logged.Load(), now.Unix()
	return (this >= last+60 || this < last) && r.logged.CompareAndSwap(last, this)
}

func (r *Responder) refuse(w http.ResponseWriter, der []byte) {
	w.Header().Set("Content-Type", mediaTypeOCSPResponse)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(der) // a client that has gone needs no answer
}

var errNoOCSPInPath = errors.New("no OCSP request in the path")

// inPath reads the request behind the path. Clients write it percent-encoded
// or not, with and without padding; some turn "+" into a space.
func (r *Responder) inPath(u *url.URL) ([]byte, error) {
	path := u.EscapedPath()
	for _, p := range r.paths {
		rest, ok := strings.CutPrefix(path, p.escaped+"/")
		if !ok {
			continue
		}
		text, err := url.PathUnescape(strings.TrimLeft(rest, "/"))
		if err != nil || text == "" || base64.StdEncoding.DecodedLen(len(text)) > maxOCSPRequest+3 {
			return nil, errNoOCSPInPath
		}
		text = strings.TrimRight(strings.ReplaceAll(text, " ", "+"), "=")
		return base64.RawStdEncoding.DecodeString(text)
	}
	return nil, errNoOCSPInPath
}
