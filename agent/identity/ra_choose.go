package identity

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/scep"
)

// overlap is how long an encryption key opens messages after its certificate
// was replaced, at the least: devices keep what GetCACert told them between
// attempts.
const overlap = 30 * day

// choose decides which pairs devices meet and puts them in their place. The
// caller holds mu.
func (r *RA) choose() error {
	now := r.cfg.Clock()
	var errs []error
	var chosen *generation
	list := r.ranked()
	for i := range list {
		g := &list[i]
		g.chain = r.chainOf(*g)
		if err := r.fits(*g); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.source, err))
			continue
		}
		if g.validAt(now) {
			chosen = g
			break
		}
		if chosen == nil {
			chosen = g
		}
	}
	if chosen == nil {
		return errors.Join(append(errs, errors.New("no RA certificates can be used"))...)
	}
	return errors.Join(r.passedOver(*chosen, now), r.serve(*chosen, r.previous(list, *chosen, now)))
}

// passedOver says why new files of the operator's are not in use: they replaced
// others while we ran, or are younger than what we made. Files of the same
// second as a generation of ours are those that init made.
func (r *RA) passedOver(chosen generation, now time.Time) error {
	delete(r.trouble, "passed over")
	if len(r.files.pairs) == 0 || chosen.same(r.files) || chosen.number > 0 && !r.files.notBefore().After(chosen.notBefore()) {
		return nil
	}
	err := r.fits(r.files)
	switch {
	case err != nil:
	case now.Before(r.files.notBefore()):
		err = fmt.Errorf("not valid before %s", r.files.notBefore().UTC().Format(time.RFC3339))
	case !now.Before(r.files.notAfter()):
		err = fmt.Errorf("expired on %s", date(r.files.notAfter()))
	case r.present(r.files):
		return nil // the one in use is as good
	default:
		err = errors.New("not issued by the CA that is configured now")
	}
	err = fmt.Errorf("%s: the new files are not used, the old pairs stay: %w", r.name(), err)
	r.trouble["passed over"] = err.Error()
	return err
}

// ranked lists what could be used, the best first: what the present CA issued
// before the rest, then the newest of ours, before which the operator's files
// come when they are younger.
func (r *RA) ranked() []generation {
	list := slices.Clone(r.made)
	slices.Reverse(list)
	if len(r.files.pairs) > 0 {
		at := len(list)
		if at > 0 && r.files.notBefore().After(list[0].notBefore()) {
			at = 0
		}
		list = slices.Insert(list, at, r.files)
	}
	list = append(list, r.replaced...)
	slices.SortStableFunc(list, func(a, b generation) int {
		return rank(r.present(a)) - rank(r.present(b))
	})
	return list
}

func rank(good bool) int {
	if good {
		return 0
	}
	return 1
}

// chainOf is the chain that pairs were issued under. That of the operator's
// files is written down when they are seen for the first time: after the CA's
// certificate was renewed nobody else knows it.
func (r *RA) chainOf(g generation) []*x509.Certificate {
	if g.number > 0 || g.chain != nil {
		return g.chain
	}
	l := lineage{folder: r.lineage.path("files-" + g.digest())}
	if chain, err := embedded.LoadChain(l.path(chainFile)); err == nil {
		return chain
	}
	if !r.present(g) {
		return nil
	}
	if err := errors.Join(durable.MakeFolder(l.folder), writeChainFile(l.path(chainFile), r.chain)); err != nil {
		r.cfg.Log.Warn("the CA's chain could not be kept", zap.Error(err))
	}
	return r.chain
}

// present tells whether the CA as it is now issued every certificate.
func (r *RA) present(g generation) bool {
	if len(r.chain) == 0 {
		return false
	}
	return r.remember("signed", g, r.chain, func() error {
		if !g.signedBy(r.chain) {
			return errors.New("of another CA")
		}
		return nil
	}) == nil
}

// fits says what devices could not use of pairs.
func (r *RA) fits(g generation) error {
	chain := r.shown(g)
	return r.remember("fits", g, chain, func() error {
		_, err := scep.NewRA(r.bare(g, chain))
		return err
	})
}

// remember makes a check once: signatures are looked at every minute, and do
// not change.
func (r *RA) remember(what string, g generation, chain []*x509.Certificate, check func() error) error {
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw)
	}
	key := what + g.digest() + string(h.Sum(nil))
	if err, known := r.checked[key]; known {
		return err
	}
	if len(r.checked) > 200 {
		clear(r.checked)
	}
	err := check()
	r.checked[key] = err
	return err
}

// digest names a set of certificates.
func (g generation) digest() string {
	h := sha256.New()
	for _, p := range g.pairs {
		h.Write(p.Certificate.Raw)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// shown is the chain that devices are shown with pairs: the CA's present one
// where it fits.
func (r *RA) shown(g generation) []*x509.Certificate {
	if len(g.chain) == 0 || r.present(g) {
		return r.chain
	}
	return g.chain
}

// previous lists the pairs that still open messages, the newest first.
func (r *RA) previous(list []generation, chosen generation, now time.Time) []generation {
	var keep []generation
	for _, g := range list {
		if !g.same(chosen) && !r.served(g, now) && !slices.ContainsFunc(keep, g.same) {
			keep = append(keep, g)
		}
	}
	if aside, ok := r.putAside(); ok && !aside.same(chosen) && !r.served(aside, now) && !slices.ContainsFunc(keep, aside.same) {
		keep = append(keep, aside)
	}
	return keep
}

// served tells whether pairs have served their time: expired, and replaced at
// least an overlap ago.
func (r *RA) served(g generation, now time.Time) bool {
	if now.Before(g.notAfter()) {
		return false
	}
	var until time.Time
	for _, later := range r.made { // oldest first
		if later.number > g.number && later.made.After(g.notBefore()) {
			until = later.made
			break
		}
	}
	if until.IsZero() { // files replaced files: when that was is not written down
		key := sha256.Sum256(g.pairs[0].Certificate.Raw)
		if _, seen := r.since[key]; !seen {
			r.since[key] = now
		}
		until = r.since[key]
	}
	return now.After(until.Add(overlap))
}

// putAside is the pair that "ra enroll" left beside the files.
func (r *RA) putAside() (generation, bool) {
	files := []Files{r.cfg.Signing, r.cfg.Encryption}[:len(r.lineage.roles)]
	g := generation{source: r.cfg.Signing.Certificate + ".old"}
	for _, f := range files {
		old := Files{f.Certificate + ".old", f.Key + ".old"}
		if keys.IsURI(f.Key) {
			old.Key = f.Key
		}
		if _, err := os.Stat(old.Certificate); err != nil {
			return g, false
		}
		p, err := loadPair(r.lineage.keys, old)
		if err != nil {
			return g, false
		}
		g.pairs = append(g.pairs, p)
	}
	return g, true
}

// serve puts pairs in their place, unless they are there already.
func (r *RA) serve(chosen generation, previous []generation) error {
	look := r.lookOf(chosen, previous)
	old := r.live.Load()
	if old != nil && old.look == look {
		return nil
	}
	ra, err := scep.NewRA(r.material(chosen, r.shown(chosen), previous))
	if err != nil { // a previous pair, or the next CA, cannot be used
		return fmt.Errorf("%s: %w", r.name(), err)
	}
	r.live.Store(&serving{ra: ra, current: chosen, previous: previous, look: look})
	if old != nil && !old.current.same(chosen) {
		r.cfg.Log.Info("RA certificates taken into use", zap.String("source", chosen.source), zap.Time("not_after", chosen.notAfter()))
	}
	return nil
}

func (r *RA) lookOf(chosen generation, previous []generation) [32]byte {
	h := sha256.New()
	for _, g := range append([]generation{chosen}, previous...) {
		for _, p := range g.pairs {
			h.Write(p.Certificate.Raw)
		}
		h.Write([]byte{0})
	}
	for _, g := range previous {
		h.Write([]byte{byte(rank(r.stillSigns(g)))})
	}
	for _, c := range r.shown(chosen) {
		h.Write(c.Raw)
	}
	h.Write([]byte{0})
	if r.announced() != nil {
		h.Write(r.nextRaw)
	}
	return [32]byte(h.Sum(nil))
}

// announced is the next CA until it is the CA.
func (r *RA) announced() *scep.NextCA {
	if r.next == nil || sameCA(r.next.Chain, r.chain) {
		return nil
	}
	return r.next
}

// bare is a scep.RA of one set of pairs. It needs no lock.
func (r *RA) bare(g generation, chain []*x509.Certificate) scep.RA {
	m := r.cfg.Material
	m.Chain, m.Next, m.Previous, m.PreviousSigning = chain, nil, nil, nil
	m.Signing, m.Encryption = g.pairs[0], g.pairs[len(g.pairs)-1]
	return m
}

// material is everything that devices meet.
func (r *RA) material(g generation, chain []*x509.Certificate, previous []generation) scep.RA {
	m := r.bare(g, chain)
	m.Next = r.announced()
	for _, p := range previous {
		m.Previous = append(m.Previous, p.pairs[len(p.pairs)-1])
		var signing scep.KeyPair
		if r.stillSigns(p) {
			signing = p.pairs[0]
		}
		m.PreviousSigning = append(m.PreviousSigning, signing)
	}
	return m
}

// stillSigns tells whether an older pair may sign answers to messages that its
// fellow opened. It ends a little early: we look once a minute or so.
func (r *RA) stillSigns(g generation) bool {
	return r.cfg.Clock().Add(2 * time.Hour).Before(g.pairs[0].Certificate.NotAfter)
}

// order is what to ask the CA for.
func (r *RA) order(present generation, chain []*x509.Certificate) ownenroll.Config {
	renew := r.cfg.Renew
	cfg := ownenroll.Config{CA: renew.CA, Direct: renew.Direct, Chain: chain, Subject: renew.Subject, KeyBits: renew.KeyBits, Clock: r.cfg.Clock}
	usages := map[string]x509.KeyUsage{
		"signing": x509.KeyUsageDigitalSignature, "encryption": x509.KeyUsageKeyEncipherment,
		"combined": x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	for i, name := range r.lineage.roles {
		role := ownenroll.Role{Name: name, Template: renew.SigningTemplate, KeyUsage: usages[name]}
		if role.Where = keys.PlaceOfRef(r.keyOf(present, i)); role.Where == keys.File {
			role.Where = cmp.Or(r.cfg.Where, keys.File)
		}
		if name == "encryption" && renew.EncryptionTemplate != "" {
			role.Template = renew.EncryptionTemplate
		}
		if len(renew.Subject.ToRDNSequence()) == 0 && i < len(present.pairs) {
			cert := present.pairs[i].Certificate
			cfg.Subject = pkix.Name{
				Country: cert.Subject.Country, Organization: cert.Subject.Organization, OrganizationalUnit: cert.Subject.OrganizationalUnit,
				Locality: cert.Subject.Locality, Province: cert.Subject.Province,
			}
			role.CommonName = strings.TrimSpace(cert.Subject.CommonName)
			if role.CommonName == "" {
				role.CommonName = r.cfg.Endpoint + " RA " + name
			}
			cfg.KeyBits = max(cfg.KeyBits, min(bits(cert.PublicKey), 4096))
		}
		cfg.Roles = append(cfg.Roles, role)
	}
	return cfg
}

// prune removes generations that have served their time.
func (r *RA) prune() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.live.Load()
	if s == nil {
		return nil
	}
	var errs []error
	now := r.cfg.Clock()
	for _, g := range r.made {
		if !g.same(s.current) && !slices.ContainsFunc(s.previous, g.same) && r.served(g, now) {
			errs = append(errs, r.lineage.drop(g))
		}
	}
	if errs != nil {
		r.load()
	}
	return errors.Join(errs...)
}
