package entra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/retry"
)

// slowAfter is how long a registered certificate may be unknown to Entra ID
// before that is worth a person's look.
const slowAfter = 4 * time.Hour

// Tend does what is due now, and never waits for anything to become due: it
// makes a new certificate at two thirds of the life of the one that works, has
// it added, tries it, and removes the old one after the overlap. Call it every
// minute or so. Its error is that of the last step that failed; Items has it
// too, and the next call goes on.
func (s *Store) Tend(ctx context.Context) error {
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.refresh(); err != nil {
		return err
	}
	s.warn()
	if err := s.prepare(false); err != nil {
		return err
	}
	return errors.Join(s.further(ctx), s.clean(ctx))
}

// Rotate replaces the certificate now: it makes a new one, or goes on with the
// one that was made before, and waits until a token was had with it. That may
// take hours, while Entra's replicas learn of it; the old one serves
// meanwhile, and Tend goes on when ctx ends. ErrByHand when the application
// may not change its own keys: then the certificate that is returned must be
// uploaded by a person.
func (s *Store) Rotate(ctx context.Context) (Upload, error) {
	number := 0
	for {
		g, wait, err := s.rotateOnce(ctx, number)
		switch {
		case g == nil:
			return Upload{}, err
		case errors.Is(err, ErrByHand):
			return s.upload(g), err
		case g.State == Working:
			return s.upload(g), nil
		}
		number = g.Generation
		if waitErr := retry.Wait(ctx, max(wait, time.Second)); waitErr != nil {
			return s.upload(g), fmt.Errorf("the new certificate is not in use yet (the service goes on by itself): %w", errors.Join(waitErr, err))
		}
	}
}

// rotateOnce makes one attempt at a generation, or 0 to begin with. It returns
// the generation as it is then, and how long to wait.
func (s *Store) rotateOnce(ctx context.Context, number int) (*generation, time.Duration, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	if err := s.refresh(); err != nil {
		return nil, 0, err
	}
	if number == 0 {
		if number, err = s.prepareNow(); err != nil {
			return nil, 0, err
		}
	}
	err = s.further(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.list {
		if g.Generation == number {
			snapshot := *g
			return &snapshot, g.NextAt.Sub(s.Clock()), err
		}
	}
	return nil, 0, fmt.Errorf("generation %d of the Entra certificate has gone from its folder", number)
}

// prepareNow makes the next generation, or has one that waits added at once.
func (s *Store) prepareNow() (int, error) {
	s.mu.Lock()
	ready := s.graph != nil && s.current(s.Clock()) != nil
	s.mu.Unlock()
	if !ready {
		return 0, fmt.Errorf("%w: no certificate works, and one that works must vouch for its successor; make one and upload it", ErrByHand)
	}
	if err := s.prepare(true); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.pending(s.Clock()); g != nil {
		return g.Generation, nil
	}
	return 0, errors.New("the new certificate ended before it was used: check this host's clock")
}

// refresh reads the folder again: a command may have added a generation.
func (s *Store) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

// prepare makes the next generation when it is time for it, or now.
func (s *Store) prepare(force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	current, pending := s.current(now), s.pending(now)
	if current == nil || s.graph == nil || !force && now.Before(current.renewAt()) {
		return nil
	}
	// A clock that jumped ahead and came back leaves one that is not valid yet.
	if pending != nil && pending.Certificate.NotBefore.After(now.Add(backDate)) {
		if err := s.retire(pending, "it was made by a clock that was ahead"); err != nil {
			return err
		}
		pending = nil
	}
	if pending == nil {
		_, err := s.make(!s.ByHand)
		return err
	}
	if pending.Auto == !s.ByHand && !force {
		return nil
	}
	pending.Auto = !s.ByHand
	if force {
		pending.NextAt = now
	}
	return s.save(pending)
}

// further takes the newest generation on, if it does not work yet and the next
// attempt is due.
func (s *Store) further(ctx context.Context) error {
	s.mu.Lock()
	now := s.Clock()
	graph, current, g := s.graph, s.current(now), s.pending(now)
	due := g != nil && g.due(now)
	add := due && g.Auto && g.State == Made && current != nil
	s.mu.Unlock()
	if graph == nil || !due {
		return nil
	}
	var registerErr error
	if add {
		registerErr = s.register(ctx, graph, current, g)
	}
	// Even when it could not be added: a person may have uploaded it.
	err := graph.Try(ctx, g.Credential)
	s.at("entra.tried")
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.markWorking(g)
		s.at("entra.working")
		return err
	}
	if g.State == Working { // another sign-in had a token with it meanwhile
		return nil
	}
	cause := s.why(g, registerErr, err)
	s.Log.Info("the new Entra certificate does not work yet and is tried again", zap.String("tenant", s.Tenant),
		zap.Int("generation", g.Generation), zap.Int("attempt", g.Attempts+1), zap.Error(cause))
	return errors.Join(cause, s.postpone(g, cause))
}

// why says what keeps a generation from working, and what to do about it.
func (s *Store) why(g *generation, registerErr, tryErr error) error {
	switch {
	case errors.Is(registerErr, ErrForbidden):
		return fmt.Errorf("%w: upload %q, for the application may not add it itself (%v)", ErrByHand, s.file(g.Generation, "cer"), registerErr)
	case registerErr != nil:
		return fmt.Errorf("adding the certificate to the app registration: %w", registerErr)
	case !errors.Is(tryErr, ErrUnknownCertificate):
		return fmt.Errorf("asking for a token with the new certificate: %w", tryErr)
	case g.State == Made:
		return fmt.Errorf("%w: upload %q to the app registration", ErrByHand, s.file(g.Generation, "cer"))
	case s.Clock().Sub(g.RegisteredAt) > slowAfter:
		return fmt.Errorf("%w, though it was added %v ago; look at the certificates of the app registration", tryErr, s.Clock().Sub(g.RegisteredAt).Round(time.Minute))
	}
	return fmt.Errorf("%w yet", tryErr)
}

// register adds a generation to the app registration, unless it is there: a
// crash may have hidden the answer.
func (s *Store) register(ctx context.Context, graph Graph, current, g *generation) error {
	s.mu.Lock()
	g.AddingAt = s.Clock().UTC()
	err := s.save(g)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.at("entra.adding")
	app, err := graph.Application(ctx)
	if err != nil {
		return err
	}
	s.at("entra.looked")
	i := slices.IndexFunc(app.Keys, func(k Key) bool { return s.is(k, g) })
	var key Key
	if i >= 0 {
		key = app.Keys[i]
	} else {
		proof, err := graph.Proof(app.ObjectID, current.Credential, s.Clock())
		if err != nil {
			return fmt.Errorf("proving possession of the certificate that works: %w", err)
		}
		if key, err = graph.AddKey(ctx, app.ObjectID, g.Certificate.Raw, s.displayName(g.Generation), proof); err != nil {
			return err
		}
	}
	s.at("entra.added")
	s.mu.Lock()
	defer s.mu.Unlock()
	g.KeyID, g.RegisteredAt = key.KeyID, s.Clock().UTC()
	if g.State == Made { // unless a token was had with it already
		g.State = Registered
	}
	s.settle(g)
	err = s.save(g)
	s.Audit.Info("Entra certificate added to the app registration", zap.String("tenant", s.Tenant), zap.Int("generation", g.Generation),
		zap.String("key_id", key.KeyID), zap.String("sha256", g.Fingerprint), zap.Bool("found_there", i >= 0))
	s.at("entra.registered")
	return err
}
