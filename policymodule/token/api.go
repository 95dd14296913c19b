package token

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
)

// maxBody is the longest wish, in octets.
const maxBody = 16 << 10

// The rules of the mint API, as they stand in problems and logs.
const (
	apiCrossSite = "challenge_cross_site"
	apiEndpoint  = "challenge_unknown_endpoint"
	apiMediaType = "challenge_media_type"
	apiTooLarge  = "challenge_too_large"
	apiMalformed = "challenge_malformed"
	apiBadWish   = "challenge_bad_wish"
	apiNoRight   = "challenge_no_right"
	apiTooFast   = "challenge_too_fast"
	apiFull      = "challenge_ledger_full"
	apiFailed    = "challenge_failed"
)

// APIConfig says who may have challenges made, and where.
type APIConfig struct {
	// Challengers make the challenges, by name of the endpoint. Those of any
	// policy module will do.
	Challengers map[string]policymodule.Challenger

	// Authenticate tells who asks. Refuse answers when it could not; it is
	// given Authenticate's error. Both are required.
	Authenticate func(*http.Request) (policymodule.Principal, error)
	Refuse       func(http.ResponseWriter, *http.Request, error)

	// Log has a line for each refusal, of callers that are not known no more than
	// ten a minute; that a challenge was made is the
	// challenger's to say. nil: none.
	Log *zap.Logger
}

type api struct {
	config APIConfig
	origin *http.CrossOriginProtection
	log    *zap.Logger

	refusals *webauth.RefusalLog
}

// errSite is a request that another site had a browser send.
var errSite = errors.New("sent by another site")

// NewAPI returns the handler of POST /challenges/{endpoint}, which has a
// challenge made (docs/openapi/challenges.yaml). Whether an endpoint exists is
// told to nobody who is not known, and no browser is a caller: a page of
// another site must not fetch a challenge with somebody's credentials.
func NewAPI(config APIConfig) http.Handler {
	config.Challengers = maps.Clone(config.Challengers)
	a := &api{config: config, origin: http.NewCrossOriginProtection(), log: config.Log, refusals: webauth.NewRefusalLog()}
	if a.log == nil {
		a.log = zap.NewNop()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /challenges/{endpoint}", a.serve)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// wishBody is a policymodule.ChallengeWish as JSON has it.
type wishBody struct {
	Subject     string    `json:"subject"`
	SAN         []string  `json:"san"`
	KeyUsage    []string  `json:"key_usage"`
	ExtKeyUsage []string  `json:"ext_key_usage"`
	Key         *keyClaim `json:"key"`
	Hash        string    `json:"hash"`
	Template    string    `json:"template"`
	MaxValidity int64     `json:"max_validity"` // seconds
	Lifetime    int64     `json:"lifetime"`     // seconds
}

var wishNames = []string{
	"subject", "san", "key_usage", "ext_key_usage", "key", "type", "min_bits", "hash", "template", "max_validity", "lifetime",
}

// madeBody is the answer.
type madeBody struct {
	Challenge string    `json:"challenge"`
	ID        string    `json:"id"`
	Expires   time.Time `json:"expires"`
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	endpoint := r.PathValue("endpoint")
	if a.origin.Check(r) != nil {
		a.refuse(w, r, "", &problem{http.StatusForbidden, apiCrossSite, "challenges are not made for pages of other sites", 0})
		return
	}
	by, err := a.config.Authenticate(r)
	if err != nil {
		a.log.Log(a.refusals.Level(err), "challenge refused: caller not identified", zap.String("remote", r.RemoteAddr), zap.Error(err))
		a.config.Refuse(w, r, err)
		return
	}
	challenger, ok := a.config.Challengers[endpoint]
	if !ok {
		a.refuse(w, r, by.Name, &problem{http.StatusNotFound, apiEndpoint, "there is no such endpoint, or it makes no challenges", 0})
		return
	}
	wish, p := readWish(w, r)
	if p != nil {
		a.refuse(w, r, by.Name, p)
		return
	}
	made, err := challenger.GenerateChallenge(r.Context(), by, wish)
	if err != nil {
		p := problemOf(err)
		if p.rule == apiFailed {
			a.log.Error("challenge could not be made", zap.String("endpoint", endpoint), zap.String("principal", by.Name), zap.Error(err))
		}
		a.refuse(w, r, by.Name, p)
		return
	}
	answer(w, http.StatusCreated, "application/json", madeBody{made.Challenge.Reveal(), made.ID, made.Expires.UTC().Truncate(time.Second)})
}

// readWish reads the body.
func readWish(w http.ResponseWriter, r *http.Request) (wish policymodule.ChallengeWish, p *problem) {
	// A form cannot have this type, so that no page can post one unasked.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return wish, &problem{http.StatusUnsupportedMediaType, apiMediaType, "the Content-Type is application/json", 0}
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return wish, &problem{http.StatusRequestEntityTooLarge, apiTooLarge, "a wish has up to 16 KiB", 0}
	}
	if err != nil {
		return wish, &problem{http.StatusBadRequest, apiMalformed, "the body could not be read", 0}
	}
	var b wishBody
	if err := decodeStrict(content, wishNames, &b); err != nil {
		return wish, &problem{http.StatusBadRequest, apiMalformed, err.Error(), 0}
	}
	wish, err = b.wish()
	if err != nil {
		return wish, &problem{http.StatusBadRequest, apiBadWish, err.Error(), 0}
	}
	return wish, nil
}

func (b *wishBody) wish() (policymodule.ChallengeWish, error) {
	const most = int64(maxValidity / time.Second)
	if b.MaxValidity < 0 || b.MaxValidity > most || b.Lifetime < 0 || b.Lifetime > most {
		return policymodule.ChallengeWish{}, errors.New("max_validity and lifetime are seconds, not negative, within a hundred years")
	}
	wish := policymodule.ChallengeWish{
		Subject: b.Subject, SANs: b.SAN, KeyUsage: b.KeyUsage, Hash: b.Hash, Template: b.Template,
		Validity: time.Duration(b.MaxValidity) * time.Second, Lifetime: time.Duration(b.Lifetime) * time.Second,
	}
	if b.Key != nil {
		wish.KeyType, wish.MinKeyBits = b.Key.Type, b.Key.MinBits
	}
	for _, text := range b.ExtKeyUsage {
		oid, ok := parseOID(text)
		if !ok {
			return wish, errors.New("ext_key_usage has a value that is no object identifier, as 1.3.6.1.5.5.7.3.2 is")
		}
		wish.ExtKeyUsages = append(wish.ExtKeyUsages, oid)
	}
	return wish, nil
}

// problem is what a caller is told (RFC 9457).
type problem struct {
	status     int
	rule       string
	detail     string
	retryAfter time.Duration // 0: not said
}

// fullFor is how long a caller is told to wait for room in a ledger: that a
// challenge is used or expires is a matter of minutes.
const fullFor = time.Minute

// problemOf translates a challenger's error. Why a wish was refused is for the
// caller to know, who has been authenticated; what broke here is not.
func problemOf(err error) *problem {
	switch {
	case errors.Is(err, policymodule.ErrNoRight):
		return &problem{http.StatusForbidden, apiNoRight, err.Error(), 0}
	case errors.Is(err, policymodule.ErrBadWish):
		return &problem{http.StatusBadRequest, apiBadWish, err.Error(), 0}
	case errors.Is(err, policymodule.ErrTooFast):
		wait := time.Minute
		if e, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok {
			wait = max(e.RetryAfter(), time.Second)
		}
		return &problem{http.StatusTooManyRequests, apiTooFast, "challenges are asked for too fast", wait}
	case errors.Is(err, policymodule.ErrLedgerFull):
		return &problem{http.StatusServiceUnavailable, apiFull, "too many challenges are outstanding", fullFor}
	}
	return &problem{http.StatusInternalServerError, apiFailed, "the challenge could not be made", 0}
}

func (a *api) refuse(w http.ResponseWriter, r *http.Request, principal string, p *problem) {
	level := zap.WarnLevel
	if principal == "" { // a stranger's
		level = a.refusals.Level(errSite)
	}
	a.log.Log(level, "challenge refused",
		zap.String("endpoint", r.PathValue("endpoint")), zap.String("principal", principal),
		zap.String("rule", p.rule), zap.String("remote", r.RemoteAddr))
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	answer(w, p.status, "application/problem+json", struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Rule   string `json:"rule"`
		Detail string `json:"detail"`
	}{http.StatusText(p.status), p.status, p.rule, p.detail})
}

func answer(w http.ResponseWriter, status int, contentType string, body any) {
	b, err := json.Marshal(body)
	if err != nil { // texts, numbers and a time always encode
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller may have gone
}
