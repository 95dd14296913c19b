package onetime

import (
	"crypto/x509"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
)

// DefaultPath is where NDES has its page (registry value PasswordVDir).
const DefaultPath = "/certsrv/mscep_admin"

// PageConfig describes the page of one endpoint.
type PageConfig struct {
	Challenger policymodule.Challenger // required
	Endpoint   string                  // name of the SCEP endpoint, for the log
	Path       string                  // "": DefaultPath

	// Authenticate tells who asks; required. An error that wraps ErrNoRight
	// says that the caller is known and may have nothing here; any other is
	// handed to Refuse, which answers. Both are webauth's in the service.
	Authenticate func(*http.Request) (policymodule.Principal, error)
	Refuse       func(http.ResponseWriter, *http.Request, error)

	// CA returns the certificate of the CA, of which the page shows a digest;
	// required.
	CA func() (*x509.Certificate, error)

	Lifetime time.Duration // what the page says of a password's life; 0: DefaultLifetime
	Charset  Charset       // "": UTF16LEWithBOM
	Log      *zap.Logger   // nil: none
}

// Page is the page mscep_admin. Every GET makes a password.
type Page struct {
	config PageConfig
	path   string // lower case, without a slash at the end
	log    *zap.Logger

	refusals *webauth.RefusalLog
}

// errSite is a request that another site had a browser send.
var errSite = errors.New("sent by another site")

// NewPage returns a Page, or says what is wrong with its configuration.
func NewPage(config PageConfig) (*Page, error) {
	setDefault(&config.Lifetime, DefaultLifetime)
	if config.Path == "" {
		config.Path = DefaultPath
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	var errs []error
	if config.Challenger == nil || config.Authenticate == nil || config.Refuse == nil || config.CA == nil {
		errs = append(errs, errors.New("the page for one-time passwords needs a challenger, a way to know callers and the CA's certificate"))
	}
	if err := checkLifetime(config.Lifetime); err != nil {
		errs = append(errs, err)
	}
	charset, err := ParseCharset(string(config.Charset))
	if err != nil {
		errs = append(errs, err)
	}
	config.Charset = charset
	path := strings.TrimRight(config.Path, "/")
	if !strings.HasPrefix(path, "/") {
		errs = append(errs, errors.New("the path of the page for one-time passwords must begin with a slash and name a page, as "+DefaultPath))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Page{config: config, path: lower(path), log: config.Log, refusals: webauth.NewRefusalLog()}, nil
}

// Serves reports whether a path is the page's: with or without a slash at the
// end, or with mscep.dll below it, in any letter case, as IIS has it.
func (p *Page) Serves(path string) bool {
	path = lower(path)
	return path == p.path || path == p.path+"/" || path == p.path+"/mscep.dll"
}

// lower leaves all but ASCII alone: a proxy in front that guards this path
// does not know that other letters fold to those of it.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// ServeHTTP makes a password and shows it. NDES' three pages are answered
// with 200, as NDES does: the password, that the cache is full, and that the
// caller has no permission. A caller that asks too fast is told 429 and
// Retry-After, with the page "cache is full" as the body: that is what
// programs know to wait for when they do not look at the status.
//
// HEAD is not allowed, since its answer would need a password that nobody
// sees. For the same reason a browser that was sent here by another site, or
// that fetches ahead, is refused before anything is made.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	switch {
	case !p.Serves(r.URL.Path):
		http.Error(w, "not found", http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET makes a password", http.StatusMethodNotAllowed)
		return
	case !meant(r):
		p.log.Log(min(zap.InfoLevel, p.refusals.Level(errSite)), "challenge page refused: sent by another site", p.fields(r, "")...)
		http.Error(w, "open this page itself, not from another site", http.StatusForbidden)
		return
	}
	by, err := p.config.Authenticate(r)
	switch {
	case errors.Is(err, policymodule.ErrNoRight):
		p.noRight(w, r, by, err)
		return
	case err != nil:
		p.log.Log(p.refusals.Level(err), "challenge page refused: caller not identified", append(p.fields(r, ""), zap.Error(err))...)
		p.config.Refuse(w, r, err)
		return
	}
	p.make(w, r, by)
}

// make asks for a password and answers with a page.
func (p *Page) make(w http.ResponseWriter, r *http.Request, by policymodule.Principal) {
	fields := p.fields(r, by.Name)
	// Before the password, so that a fault here takes no place.
	ca, err := p.config.CA()
	if err != nil {
		p.log.Error("challenge page failed: no CA certificate", append(fields, zap.Error(err))...)
		http.Error(w, "the service is not ready", http.StatusInternalServerError)
		return
	}
	made, err := p.config.Challenger.GenerateChallenge(r.Context(), by, policymodule.ChallengeWish{})
	switch {
	case err == nil:
		p.log.Info("challenge shown", append(fields, zap.String("challenge_id", made.ID))...)
		p.answer(w, http.StatusOK, passwordPage(ca, made.Challenge.Reveal(), p.config.Lifetime))
	case errors.Is(err, policymodule.ErrNoRight):
		p.noRight(w, r, by, err)
	case errors.Is(err, policymodule.ErrLedgerFull):
		p.log.Warn("no challenge made: too many are outstanding", fields...)
		p.answer(w, http.StatusOK, fullPage())
	case errors.Is(err, policymodule.ErrTooFast):
		p.log.Warn("no challenge made: asked for too fast", fields...)
		w.Header().Set("Retry-After", retryAfter(err))
		p.answer(w, http.StatusTooManyRequests, fullPage())
	default:
		p.log.Error("no challenge made", append(fields, zap.Error(err))...)
		http.Error(w, "no password could be made", http.StatusInternalServerError)
	}
}

// noPassword is NDES' event for a caller that may not enroll.
const noPassword eventid.NDES = 6

func (p *Page) noRight(w http.ResponseWriter, r *http.Request, by policymodule.Principal, err error) {
	p.log.Warn("no challenge made: no right", append(p.fields(r, by.Name), zap.Error(err), noPassword.Field())...)
	p.answer(w, http.StatusOK, noPermissionPage())
}

func (p *Page) answer(w http.ResponseWriter, status int, page string) {
	body := p.config.Charset.encode(page)
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // who hung up asks again; the password expires
}

// fields say who asked for what, in which a request has no say but its address.
func (p *Page) fields(r *http.Request, principal string) []zap.Field {
	fields := []zap.Field{zap.String("endpoint", p.config.Endpoint), zap.String("source", r.RemoteAddr)}
	if principal != "" {
		fields = append(fields, zap.String("principal", principal))
	}
	return fields
}

// setHeaders keeps a password out of caches, frames, other sites' scripts and
// the addresses that a browser tells the next site.
func setHeaders(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
}

// meant reports whether somebody opened the page itself. Programs send none
// of these headers; an old browser that sends only Origin does so for another
// site's script.
func meant(r *http.Request) bool {
	if strings.Contains(lower(strings.Join(r.Header.Values("Sec-Purpose"), ",")), "prefetch") {
		return false
	}
	if sites := r.Header.Values("Sec-Fetch-Site"); len(sites) > 0 {
		return len(sites) == 1 && (sites[0] == "none" || sites[0] == "same-origin")
	}
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		u, err := url.Parse(origins[0])
		return len(origins) == 1 && err == nil && u.Host != "" && u.Host == r.Host
	}
	return true
}

// retryAfter is a number of seconds, at least one (RFC 9110, section 10.2.3).
func retryAfter(err error) string {
	wait := time.Second
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		wait = max(wait, e.RetryAfter())
	}
	return strconv.Itoa(int(math.Ceil(wait.Seconds())))
}
