package entra

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/durable"
)

// clean retires generations that are not needed any more: expired ones at
// once, older ones when their successor has worked for the overlap.
func (s *Store) clean(ctx context.Context) error {
	now := s.Clock()
	s.mu.Lock()
	graph, current := s.graph, s.current(now)
	var expired, old []*generation
	for _, g := range s.list {
		switch {
		case g.State == Retired:
		case !g.live(now) && current != nil:
			expired = append(expired, g)
		case current != nil && g.Generation < current.Generation && !now.Before(current.WorkedAt.Add(s.Overlap)) && g.due(now):
			old = append(old, g)
		}
	}
	var errs []error
	for _, g := range expired {
		errs = append(errs, s.retire(g, "it has expired"))
	}
	s.mu.Unlock()
	if len(old) == 0 || graph == nil {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, s.remove(ctx, graph, current, old))...)
}

// remove takes old generations out of the app registration, after making sure
// that the current one still works.
func (s *Store) remove(ctx context.Context, graph Graph, current *generation, old []*generation) error {
	err := graph.Try(ctx, current.Credential)
	if err != nil {
		err = fmt.Errorf("old Entra certificates are kept, for the current one gave no token: %w", err)
	}
	var app Application
	if err == nil {
		app, err = graph.Application(ctx)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, g := range old {
			err = errors.Join(err, s.postpone(g, err))
		}
		return err
	}
	var errs []error
	for _, g := range old {
		if err := s.removeOne(ctx, graph, app, current, g); err != nil {
			s.mu.Lock()
			errs = append(errs, err, s.postpone(g, err))
			s.mu.Unlock()
		}
	}
	s.leftovers(ctx, graph, app, current)
	return errors.Join(errs...)
}

// removeOne takes a generation out of the app registration and retires it.
func (s *Store) removeOne(ctx context.Context, graph Graph, app Application, current, g *generation) error {
	s.mu.Lock()
	g.RemovingAt = s.Clock().UTC()
	err := s.save(g)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.at("entra.removing")
	if err := s.removeKeys(ctx, graph, app, current, g); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retire(g, "its successor works")
}

// removeKeys removes all keys that are a generation's; a crash may have added
// it twice.
func (s *Store) removeKeys(ctx context.Context, graph Graph, app Application, current, g *generation) error {
	for _, k := range app.Keys {
		if !s.is(k, g) || s.is(k, current) {
			continue
		}
		if s.ByHand {
			return fmt.Errorf("%w: remove the certificate with thumbprint %s from the app registration", ErrByHand, Thumbprint(g.Certificate.Raw))
		}
		proof, err := graph.Proof(app.ObjectID, current.Credential, s.Clock())
		if err == nil {
			err = graph.RemoveKey(ctx, app.ObjectID, k.KeyID, proof)
		}
		if errors.Is(err, ErrForbidden) {
			return fmt.Errorf("%w: remove the certificate with thumbprint %s from the app registration, for the application may not (%v)",
				ErrByHand, Thumbprint(g.Certificate.Raw), err)
		}
		if err != nil {
			return fmt.Errorf("removing the old certificate from the app registration: %w", err)
		}
		s.Audit.Info("Entra certificate removed from the app registration", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation),
			zap.String("key_id", k.KeyID), zap.String("sha256", g.Fingerprint))
		s.at("entra.removed")
	}
	return nil
}

// leftovers removes keys of generations that were retired without (one that a
// wrong clock made), and notices keys that have this folder's name but not its
// certificates. Those are left alone: a copy of the folder on another host may
// sign in with them. Items names them.
func (s *Store) leftovers(ctx context.Context, graph Graph, app Application, current *generation) {
	s.mu.Lock()
	s.unknown = nil
	for _, k := range app.Keys {
		known := !strings.HasPrefix(k.DisplayName, s.namePrefix())
		for _, g := range s.list {
			known = known || s.is(k, g)
		}
		if !known {
			s.unknown = append(s.unknown, k)
		}
	}
	var retired []*generation
	now := s.Clock()
	for _, g := range s.list {
		if g.State == Retired && g.RemovingAt.IsZero() && now.Before(g.Certificate.NotAfter) {
			retired = append(retired, g)
		}
	}
	s.mu.Unlock()
	for _, g := range retired {
		if err := s.removeKeys(ctx, graph, app, current, g); err != nil {
			s.Log.Warn("a certificate that was never used is still in the app registration", zap.String("tenant", s.Tenant), zap.Error(err))
		}
	}
}

// retire records that a generation is not used any more, then erases its key.
// The caller holds mu.
func (s *Store) retire(g *generation, why string) error {
	g.State, g.RetiredAt = Retired, s.Clock().UTC()
	s.settle(g)
	if err := s.save(g); err != nil {
		return err
	}
	s.Audit.Info("Entra certificate retired", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation),
		zap.String("sha256", g.Fingerprint), zap.String("reason", why))
	s.at("entra.retired")
	g.Signer = nil
	if err := durable.Remove(s.file(g.Generation, "key")); err != nil {
		return fmt.Errorf("erasing the key of a retired certificate: %w", err)
	}
	s.at("entra.erased")
	return nil
}
