package intunetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// RevocationOptions say how the revocation service behaves. What is known of
// the real one's cool-down and filter is off unless it is asked for.
type RevocationOptions struct {
	CoolDown time.Duration // after a download, in which others get nothing; the real one's is an hour
	Lease    time.Duration // a request that was handed out and not answered is offered again after that; 0: at each download

	FilterConfiguration bool // issuerName is compared with caConfiguration, as was seen
	FilterLate          bool // the filter works on the first maxRequests only, as was seen

	// Names that differ from today's, for Microsoft has announced a change.
	Service        string
	Version        string
	DownloadAction string
	UploadAction   string
}

func (o RevocationOptions) complete() RevocationOptions {
	o.Service = cmp.Or(o.Service, "PkiConnectorFEService")
	o.Version = cmp.Or(o.Version, "5019-05-05")
	o.DownloadAction = cmp.Or(o.DownloadAction, "CertificateAuthorityRequests/downloadRevocationRequests")
	o.UploadAction = cmp.Or(o.UploadAction, "CertificateAuthorityRequests/uploadRevocationResults")
	return o
}

// RevocationState is how far a request is.
type RevocationState string

// The states. Revoked and RevocationFailed are final.
const (
	RevocationQueued    RevocationState = "queued"    // to be handed out
	RevocationDelivered RevocationState = "delivered" // handed out, no answer yet
	Revoked             RevocationState = "revoked"
	RevocationFailed    RevocationState = "failed"
)

// Revocation is a request to revoke a certificate, and what became of it.
type Revocation struct {
	Tenant          string          `json:"tenant"`
	Context         string          `json:"context"`
	SerialNumber    string          `json:"serial_number"`
	Issuer          string          `json:"issuer"`
	CAConfiguration string          `json:"ca_configuration"`
	TransactionID   string          `json:"transaction_id,omitempty"` // of the notification; "": injected
	Device          string          `json:"device,omitempty"`
	State           RevocationState `json:"state"`

	Notified   time.Time `json:"notified"`   // when the certificate was reported
	Queued     time.Time `json:"queued"`     // when its revocation was asked for
	FirstSeen  time.Time `json:"first_seen"` // when it was handed out first
	LastSeen   time.Time `json:"last_seen"`
	Deliveries int       `json:"deliveries"`

	Answered time.Time `json:"answered"` // when the last result was taken
	Results  int       `json:"results"`  // how many were
	Retries  int       `json:"retries"`  // results that asked for another try
	Code     int       `json:"code"`     // of the result that counts
	Message  string    `json:"message,omitempty"`

	copies int
	raw    json.RawMessage
}

// Injection is a request that no notification stands behind, or that is not as
// it should be.
type Injection struct {
	Context         string          `json:"context"` // "": one is made
	SerialNumber    string          `json:"serial_number"`
	Issuer          string          `json:"issuer"`
	CAConfiguration string          `json:"ca_configuration"`
	Copies          int             `json:"copies"` // how often it stands in one answer; 0: once
	Raw             json.RawMessage `json:"raw"`    // handed out as it is in place of the fields
}

// RevocationResult is a result that the cloud has taken.
type RevocationResult struct {
	Time      time.Time `json:"time"`
	Tenant    string    `json:"tenant"`
	Context   string    `json:"context"`
	Succeeded bool      `json:"succeeded"`
	Code      int       `json:"code"`
	Message   string    `json:"message"`
}

// Contradiction is a request that was told two fates: a final result, and
// later another one.
type Contradiction struct {
	Context      string           `json:"context"`
	SerialNumber string           `json:"serial_number"`
	First        RevocationResult `json:"first"` // without its time
	Second       RevocationResult `json:"second"`
	Words        string           `json:"words"`
}

// Revoke asks for the revocation of a certificate that was reported, as an
// administrator or the end of an assignment does. An empty issuer stands for
// any. Asking again queues another request, as Intune may.
func (c *Cloud) Revoke(tenantName, serial, issuer string) (Revocation, error) {
	list, err := c.revoke(tenantName, fmt.Sprintf("serial number %s of %q", serial, issuer), func(n Notification, _ string) bool {
		return strings.EqualFold(n.SerialNumber, serial) && (issuer == "" || n.IssuingCA == issuer)
	})
	if err != nil {
		return Revocation{}, err
	}
	return list[0], nil
}

// RevokeDevice asks for the revocation of all certificates of a device that
// were reported, as a wipe does.
func (c *Cloud) RevokeDevice(tenantName, device string) ([]Revocation, error) {
	return c.revoke(tenantName, fmt.Sprintf("certificate of device %q", device), func(_ Notification, of string) bool {
		return device != "" && of == device
	})
}

// revoke queues requests for reported certificates, each once.
func (c *Cloud) revoke(tenantName, what string, wanted func(n Notification, device string) bool) ([]Revocation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return nil, fmt.Errorf("there is no tenant %q", tenantName)
	}
	var list []Revocation
	seen := map[[2]string]bool{}
	for _, n := range c.records.notifications {
		key := [2]string{n.IssuingCA, strings.ToUpper(n.SerialNumber)}
		device := ""
		if tr := c.records.transaction(t.ID, n.TransactionID, false); tr != nil {
			device = tr.Device
		}
		if n.Tenant != t.ID || !n.Success || seen[key] || !wanted(n, device) {
			continue
		}
		seen[key] = true
		r := c.records.queue(Revocation{
			Tenant: t.ID, SerialNumber: n.SerialNumber, Issuer: n.IssuingCA, CAConfiguration: n.CAConfiguration,
			TransactionID: n.TransactionID, Device: device, Notified: n.Time, Queued: c.clock(),
		})
		list = append(list, *r)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no notification was taken for %s", what)
	}
	return list, nil
}

// Inject queues requests that no notification stands behind.
func (c *Cloud) Inject(tenantName string, requests ...Injection) ([]Revocation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return nil, fmt.Errorf("there is no tenant %q", tenantName)
	}
	var list []Revocation
	for _, i := range requests {
		if i.Context != "" && c.records.byContext[[2]string{t.ID, i.Context}] != nil {
			return list, fmt.Errorf("there is a request of context %q", i.Context)
		}
		r := c.records.queue(Revocation{
			Tenant: t.ID, Context: i.Context, SerialNumber: i.SerialNumber, Issuer: i.Issuer,
			CAConfiguration: i.CAConfiguration, Queued: c.clock(), copies: i.Copies, raw: i.Raw,
		})
		list = append(list, *r)
	}
	return list, nil
}

// queue takes a request in. Its owner holds c.mu.
func (s *records) queue(r Revocation) *Revocation {
	if r.Context == "" {
		r.Context = guid()
	}
	r.State = RevocationQueued
	r.copies = max(r.copies, 1)
	if s.byContext == nil {
		s.byContext = map[[2]string]*Revocation{}
	}
	s.revocations = append(s.revocations, &r)
	s.byContext[[2]string{r.Tenant, r.Context}] = &r
	return &r
}

// Revocations returns all requests and what became of them, oldest first.
func (c *Cloud) Revocations() []Revocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Revocation, len(c.records.revocations))
	for i, r := range c.records.revocations {
		out[i] = *r
	}
	return out
}

// Contradictions returns the requests that were told two fates, in the order
// in which that came out.
func (c *Cloud) Contradictions() []Contradiction {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Contradiction{}, c.records.contradictory...)
}

// SetCoolDown changes how long downloads get nothing after one. It ends a
// cool-down that is under way.
func (c *Cloud) SetCoolDown(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cooldown = d
	clear(c.records.cooling)
}

// offered returns what a download gets, and notes that it was handed out. The
// caller holds c.mu.
func (c *Cloud) offered(t *tenant, most int, issuer string) []*Revocation {
	now := c.clock()
	if now.Before(c.records.cooling[t.ID]) {
		return nil
	}
	if c.cooldown > 0 {
		if c.records.cooling == nil {
			c.records.cooling = map[string]time.Time{}
		}
		c.records.cooling[t.ID] = now.Add(c.cooldown)
	}
	o := c.options.Revocation
	matches := func(r *Revocation) bool {
		if o.FilterConfiguration {
			return issuer == "" || r.CAConfiguration == issuer
		}
		return issuer == "" || r.Issuer == issuer
	}
	var list []*Revocation
	for _, r := range c.records.revocations {
		due := r.State == RevocationQueued || r.State == RevocationDelivered && now.Sub(r.LastSeen) >= o.Lease
		if r.Tenant != t.ID || !due || !o.FilterLate && !matches(r) {
			continue
		}
		for range r.copies {
			if len(list) < most {
				list = append(list, r)
			}
		}
		if len(list) == most {
			break
		}
	}
	if o.FilterLate {
		list = slices.DeleteFunc(list, func(r *Revocation) bool { return !matches(r) })
	}
	for _, r := range list {
		if r.FirstSeen.IsZero() {
			r.FirstSeen = now
		}
		r.State, r.LastSeen = RevocationDelivered, now
		r.Deliveries++
	}
	return list
}

// settle takes results, all of which are known and consistent, durably if
// there is a file. The caller holds c.mu.
func (s *records) settle(results []RevocationResult) error {
	for _, r := range results {
		if err := s.save(stateLine{Kind: kindRevocation, Revocation: &r}); err != nil {
			return err
		}
	}
	for _, r := range results {
		s.byContext[[2]string{r.Tenant, r.Context}].settle(s, r)
	}
	return nil
}

func (r *Revocation) settle(s *records, result RevocationResult) {
	r.Answered = result.Time
	r.Results++
	retryable := result.Code >= 4100
	if r.State == Revoked || r.State == RevocationFailed {
		if result.Succeeded != (r.State == Revoked) || retryable {
			first := RevocationResult{Tenant: r.Tenant, Context: r.Context, Succeeded: r.State == Revoked, Code: r.Code, Message: r.Message}
			s.contradictory = append(s.contradictory, Contradiction{
				Context: r.Context, SerialNumber: r.SerialNumber, First: first, Second: result,
				Words: fmt.Sprintf("%s with code %d, then succeeded %t with code %d", r.State, r.Code, result.Succeeded, result.Code),
			})
		}
		return // the first final result counts
	}
	r.Code, r.Message = result.Code, result.Message
	switch {
	case result.Succeeded:
		r.State = Revoked
	case retryable:
		r.State = RevocationQueued
		r.Retries++
	default:
		r.State = RevocationFailed
	}
}
