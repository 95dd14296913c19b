package intune

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	discoveryFresh    = 30 * time.Minute // the list is asked for again after that
	discoveryAgain    = time.Minute      // at most so often after a failure, or for a name that is missing
	discoveryAttempts = 3
	discoveryPages    = 10
)

// serviceSCEP validates requests and takes notifications.
const serviceSCEP = "ScepRequestValidationFEService"

// directory is the tenant's list of services as it was at one time.
type directory struct {
	fetched  time.Time
	services map[string][]string // lower-case name → base addresses, in the order of the list
	refused  map[string][]string // lower-case name → hosts that the allow-list keeps out
}

// locator knows where the tenant's services are. Addresses are never built
// in: each tenant lives in a scale unit, which can move.
type locator struct {
	client *Client

	mu       sync.Mutex
	current  *directory
	stale    bool      // a call found that current is wrong
	staled   time.Time // when that was last accepted
	tried    time.Time // last failed look-up while a directory was held
	inFlight flight[*directory]
}

// lookup returns the base addresses of a service, first choice first.
func (l *locator) lookup(ctx context.Context, service string) ([]string, *directory, error) {
	now := l.client.config.Clock()
	key := strings.ToLower(service)
	l.mu.Lock()
	held, stale, tried := l.current, l.stale, l.tried
	l.mu.Unlock()

	d := held
	if held == nil || l.due(held, service, now, stale, tried) {
		fresh, err := l.inFlight.do(ctx, func(ctx context.Context) (*directory, error) { return l.renew(ctx, held) })
		switch {
		case err == nil:
			d = fresh
		case held == nil || ctx.Err() != nil:
			return nil, nil, err
		default: // Graph is out of order, which says nothing about Intune
			l.client.log.Warn("service list not renewed, using the old one", zap.Error(err),
				zap.Time("fetched", held.fetched))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if uris := d.services[key]; len(uris) > 0 {
		return uris, d, nil
	}
	return nil, nil, &ServiceNotFoundError{Service: service, Refused: d.refused[key]}
}

func (l *locator) lists(d *directory, service string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(d.services[strings.ToLower(service)]) > 0
}

// prefer puts an address first that answered when those before it did not.
func (l *locator) prefer(d *directory, service, base string) {
	key := strings.ToLower(service)
	l.mu.Lock()
	defer l.mu.Unlock()
	// A new slice: callers hold the old one.
	rest := slices.DeleteFunc(slices.Clone(d.services[key]), func(u string) bool { return u == base })
	d.services[key] = append([]string{base}, rest...)
}

// due tells whether a directory should be asked for again.
func (l *locator) due(d *directory, service string, now time.Time, stale bool, tried time.Time) bool {
	if !tried.IsZero() && now.Sub(tried) < discoveryAgain {
		return false
	}
	if !l.lists(d, service) {
		return now.Sub(d.fetched) >= discoveryAgain
	}
	return stale || now.Sub(d.fetched) >= discoveryFresh
}

// renew fetches the list, unless another caller did so since held was seen.
func (l *locator) renew(ctx context.Context, held *directory) (*directory, error) {
	l.mu.Lock()
	cur, stale := l.current, l.stale
	l.mu.Unlock()
	if cur != nil && cur != held && !stale {
		return cur, nil
	}
	limited := ctx
	if held != nil && !stale {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, l.client.config.Timeouts.Renewal)
		defer cancel()
	}
	d, err := l.fetch(limited)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.current != nil && ctx.Err() == nil {
			l.tried = l.client.config.Clock()
		}
		return nil, err
	}
	l.current, l.stale, l.tried = d, false, time.Time{}
	return d, nil
}

// distrust notes that an address of a directory led nowhere. It reports
// whether another look is worth while: not more than once a minute.
func (l *locator) distrust(d *directory) bool {
	now := l.client.config.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != d || l.stale {
		return true // renewed, or found out by another caller
	}
	if !l.staled.IsZero() && now.Sub(l.staled) < discoveryAgain {
		return false
	}
	l.stale, l.staled, l.tried = true, now, time.Time{}
	return true
}

// fetch asks Graph for all pages of the list.
func (l *locator) fetch(ctx context.Context) (*directory, error) {
	cfg := l.client.config
	d := &directory{fetched: cfg.Clock(), services: map[string][]string{}, refused: map[string][]string{}}
	first := cfg.Endpoints.Graph + "v" + cfg.Endpoints.GraphVersion + "/servicePrincipals/appId=" + cfg.Endpoints.DiscoveryAppID + "/endpoints"
	next := first
	for page := 0; next != "" && page < discoveryPages; page++ {
		body, err := l.client.getPage(ctx, next)
		if err != nil {
			return nil, err
		}
		list, err := parseServices(body)
		if err != nil {
			return nil, &ProtocolError{Call: callDiscovery, Detail: err.Error()}
		}
		for _, s := range list.Value {
			l.add(d, s)
		}
		next = list.Next
		if next != "" && !sameHost(first, next) {
			l.client.log.Warn("service list continues at another host, which is not asked")
			next = ""
		}
	}
	for name, uris := range d.services {
		if len(uris) > 1 {
			l.client.log.Info("service has several addresses", zap.String("service", clean(name)), zap.Int("addresses", len(uris)))
		}
	}
	return d, nil
}

// serviceList is a page of Graph's answer.
type serviceList struct {
	Value []serviceEntry `json:"value"`
	Next  string         `json:"@odata.nextLink"`
}

type serviceEntry struct {
	ProviderName string `json:"providerName"`
	ServiceName  string `json:"serviceName"` // what the retired Azure AD Graph called it
	URI          string `json:"uri"`
}

// name is the key of an entry: the provider's name, else the service's.
func (s serviceEntry) name() string {
	if s.ProviderName != "" {
		return s.ProviderName
	}
	return s.ServiceName
}

// parseServices reads a page. A list without value is no list; an entry that
// is not understood is somebody else's and passed over.
func parseServices(body []byte) (serviceList, error) {
	var page struct {
		Value *[]json.RawMessage `json:"value"`
		Next  string             `json:"@odata.nextLink"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return serviceList{}, errors.New("the service list is not JSON of the expected form")
	}
	if page.Value == nil {
		return serviceList{}, errors.New("the service list has no value")
	}
	list := serviceList{Next: page.Next}
	for _, raw := range *page.Value {
		var e serviceEntry
		if json.Unmarshal(raw, &e) == nil && e.name() != "" && e.URI != "" {
			list.Value = append(list.Value, e)
		}
	}
	return list, nil
}

// add takes an entry into a directory if its address may be sent a token.
func (l *locator) add(d *directory, s serviceEntry) {
	key := strings.ToLower(s.name())
	base, host, ok := checkBase(s.URI, l.client.config.Endpoints.ServiceHosts)
	switch {
	case !ok:
		if key == strings.ToLower(serviceSCEP) || key == strings.ToLower(l.client.config.Endpoints.RevocationService) {
			l.client.log.Warn("service address is not allowed", zap.String("service", clean(s.name())), zap.String("host", clean(host)))
		}
		d.refused[key] = append(d.refused[key], clean(host))
	case !slices.Contains(d.services[key], base):
		d.services[key] = append(d.services[key], base)
	}
}

// checkBase returns a base address without trailing slashes, and whether it
// may be sent a token: https, an allowed host, and nothing but a path.
func checkBase(uri string, allowed []string) (base, host string, ok bool) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", "(malformed address)", false
	}
	host = u.Host
	if u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", host, false
	}
	name := strings.ToLower(u.Hostname())
	for _, a := range allowed {
		a = strings.ToLower(a)
		if name == a || strings.HasPrefix(a, ".") && strings.HasSuffix(name, a) && len(name) > len(a) {
			return strings.TrimRight(uri, "/"), host, true
		}
	}
	return "", host, false
}

func sameHost(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && ua.Scheme == ub.Scheme && ua.Host == ub.Host && ub.User == nil
}

// getPage fetches a page of the list, with what retries are due.
func (c *Client) getPage(ctx context.Context, address string) ([]byte, error) {
	renewed := false
	for attempt := 1; ; attempt++ {
		tok, err := c.graphTokens.get(ctx)
		if err != nil {
			return nil, err
		}
		body, err := c.getOnce(ctx, address, tok)
		if err == nil {
			return body, nil
		}
		if e, ok := errors.AsType[*HTTPError](err); ok {
			switch {
			case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
				// A token from before the admin consent lacks the role as long as it lives.
				if renewed || !c.graphTokens.drop(tok) {
					return nil, err
				}
				renewed = true
				continue
			case !Retryable(err) || e.After > patience:
				return nil, err
			}
		} else if !worthRepeating(err) {
			return nil, err
		}
		if attempt >= discoveryAttempts || !c.pause(ctx, err, c.config.Backoff.Delay(attempt)) {
			return nil, err
		}
	}
}

func (c *Client) getOnce(ctx context.Context, address string, tok *token) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Discovery)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &ProtocolError{Call: callDiscovery, Detail: "malformed address of the service list"}
	}
	body, _, err := c.exchange(req, exchange{call: callDiscovery, token: tok, limit: maxDiscovery})
	return body, err
}
