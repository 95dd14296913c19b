package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
)

// checkWithin bounds a check of all CAs.
const checkWithin = time.Minute

// CheckCAs asks CAs whether they can do what the configuration wants of them,
// and changes nothing: those of the given names and their roads; none: all. It
// may run beside the service. It opens no journal; of an embedded CA it looks
// at the files. The configuration must be valid. The only error is a name that
// is not in it; log may be nil.
func CheckCAs(ctx context.Context, cfg Config, names []string, log *zap.Logger) ([]ca.Finding, error) {
	chosen, err := cfg.chosenCAs(names)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	results := sideBySide(ctx, checkWithin, chosen, func(ctx context.Context, c CA) []ca.Finding {
		if len(c.Roads) > 0 {
			return nil // they are asked
		}
		return cfg.checkCA(ctx, c, log)
	})
	var all []ca.Finding
	for i, c := range chosen {
		found := slices.Concat(results[i], cfg.checkRoads(c), cfg.checkAbilities(c))
		for j := range found {
			found[j].CA = c.Name
		}
		all = append(all, found...)
	}
	return all, nil
}

// sideBySide checks neighbours at once and returns what was found, in their
// order.
func sideBySide[N, F any](ctx context.Context, within time.Duration, neighbours []N, check func(context.Context, N) []F) [][]F {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	results := make([][]F, len(neighbours))
	var checks sync.WaitGroup
	for i, n := range neighbours {
		checks.Go(func() { results[i] = check(ctx, n) })
	}
	checks.Wait()
	return results
}

// chosenCAs are the CAs of the names and the roads to them, in the order of
// the file.
func (cfg Config) chosenCAs(names []string) ([]CA, error) {
	wanted := map[string]bool{}
	for _, name := range names {
		i := slices.IndexFunc(cfg.CAs, func(c CA) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no CA is called %q; there are: %s", name, strings.Join(cfg.caNames(), ", "))
		}
		wanted[name] = true
		for _, road := range cfg.CAs[i].Roads {
			wanted[road] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(cfg.CAs), func(c CA) bool { return len(names) > 0 && !wanted[c.Name] }), nil
}

func (cfg Config) caNames() []string {
	names := make([]string, len(cfg.CAs))
	for i, c := range cfg.CAs {
		names[i] = c.Name
	}
	return names
}

// checkCA asks one CA.
func (cfg Config) checkCA(ctx context.Context, c CA, log *zap.Logger) []ca.Finding {
	const correct = "correct the CA in the configuration, or the file that it names"
	want := ca.Wanted{Templates: cfg.wantedTemplates(c.Name)}
	if c.Embedded != nil {
		config, err := embeddedConfig(c, cfg.Keys.Open(log), nil)
		if err != nil {
			return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, correct, "%v", err)}
		}
		return config.Diagnose(ctx, want)
	}
	// An agent without journal, listeners and policy: just what bridges need.
	a := &Agent{cfg: cfg, options: Options{Clock: time.Now}, log: log, audit: log, down: teardown{log: log}, keys: cfg.Keys.Open(log)}
	defer a.down.run(ca.ProbeTimeout) //nolint:errcheck // it is in the log, and nothing hangs on it
	built, err := a.buildBridge(c)
	if err == nil {
		want.Chain, err = embedded.LoadChain(c.Chain)
	}
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, correct, "%v", err)}
	}
	bridge, ok := ca.Ability[ca.Diagnoser](built.Authority)
	if !ok {
		return []ca.Finding{ca.Found(ca.Note, ca.CheckReach, "", "this kind of CA cannot be checked")}
	}
	found := bridge.Diagnose(ctx, want)
	if slices.ContainsFunc(found, hidesCA) {
		return found
	}
	return append(found, checkCRL(ctx, built.Authority)...)
}

// hidesCA tells a failure after which nothing else can be asked.
func hidesCA(f ca.Finding) bool {
	return f.Level == ca.Failure && slices.Contains([]string{ca.CheckReach, ca.CheckSignIn, ca.CheckName, ca.CheckEnroll}, f.ID)
}

// checkCRL looks at the revocation list of a CA that shows one.
func checkCRL(ctx context.Context, issuer ca.Authority) []ca.Finding {
	publisher, ok := ca.Ability[ca.Publisher](issuer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	list, err := publisher.CRL(ctx)
	if err != nil {
		return []ca.Finding{ca.Found(ca.Warning, ca.CheckCRL, "publish a revocation list at the CA (certutil -CRL), and see to what ca.chain says", "the revocation list could not be read: %v", err)}
	}
	return []ca.Finding{ca.CheckList(list, time.Now())}
}

// wantedTemplates are the templates that endpoints want of a CA, directly or as
// a road to the one they name.
func (cfg Config) wantedTemplates(name string) []ca.WantedTemplate {
	var list []ca.WantedTemplate
	for _, e := range cfg.Endpoints {
		leads := e.CA == name || slices.ContainsFunc(cfg.CAs, func(c CA) bool { return c.Name == e.CA && slices.Contains(c.Roads, name) })
		if !leads {
			continue
		}
		none := e.Templates == Templates{}
		for _, slot := range []struct {
			purpose ca.Purpose
			name    string
			always  bool
		}{
			{ca.ForSignature, e.Templates.Signature, false}, {ca.ForEncryption, e.Templates.Encryption, false},
			{ca.ForGeneral, e.Templates.General, none},
		} {
			if slot.name != "" || slot.always {
				list = append(list, ca.WantedTemplate{
					Endpoint: e.Name, Name: slot.name, Purpose: slot.purpose,
					EKU: extKeyUsages(e.Allow.EKU), MinRSA: e.Allow.MinRSABits, MaxRSA: e.Allow.MaxRSABits,
				})
			}
		}
	}
	return list
}
