package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Run renews the signers of all CAs in time, until the context ends. While a
// CA cannot sign, its present signer goes on; after its end requests are
// answered with tryLater.
func (r *Responder) Run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		err := r.Renew(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if err.Error() != failed {
				r.log.Error("OCSP signer not renewed", zap.Error(err))
			}
			failed = err.Error()
		case err == nil:
			failed = ""
		}
		again.Reset(time.Minute)
	}
}

// Renew sees to it that each CA has a signer with a third of its life left:
// the present one, the one in the store, or a new one. It returns all errors.
func (r *Responder) Renew(ctx context.Context) error {
	var errs []error
	for _, desk := range r.desks {
		if err := r.renew(ctx, desk); err != nil {
			errs = append(errs, fmt.Errorf("CA %q: %w", desk.ca.name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Responder) renew(ctx context.Context, desk *ocspDesk) error {
	desk.making.Lock()
	defer desk.making.Unlock()
	now := desk.ca.clock()
	present := desk.current()
	if present == nil && r.cfg.Store != nil {
		present = r.load(ctx, desk, now)
	}
	if present.usable(now) && !present.due(now) {
		revoked, err := desk.ca.isRevoked(ctx, present)
		if err != nil {
			return err
		}
		if !revoked {
			return nil
		}
	}
	next, err := desk.ca.makeOCSPSigner(ctx, r.cfg.SignerValidity)
	if err != nil {
		return err
	}
	desk.use(next)
	r.log.Info("OCSP signer made", zap.String("ca", desk.ca.name),
		zap.String("serial", next.cert.SerialNumber.Text(16)), zap.Time("ends", next.cert.NotAfter))
	if r.cfg.Store == nil {
		return nil
	}
	b, err := encodeSigner(next)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := r.cfg.Store.SaveSigner(desk.ca.name, b); err != nil { // it is in use; a restart makes another
		return fmt.Errorf("keeping the new signer: %w", err)
	}
	return nil
}

// load takes the signer of the store into use, also one that is due: the CA
// may be unable to sign another. One that does not read, was revoked or has
// ended is none.
func (r *Responder) load(ctx context.Context, desk *ocspDesk, now time.Time) *ocspSigner {
	b, err := r.cfg.Store.LoadSigner(desk.ca.name)
	if err != nil || b == nil {
		if err != nil {
			r.log.Warn("kept OCSP signer not used", zap.String("ca", desk.ca.name), zap.Error(err))
		}
		return nil
	}
	defer clear(b)
	s, err := desk.ca.decodeSigner(b)
	if err != nil {
		r.log.Warn("kept OCSP signer not used", zap.String("ca", desk.ca.name), zap.Error(err))
		return nil
	}
	if revoked, err := desk.ca.isRevoked(ctx, s); err != nil || revoked || !s.usable(now) {
		return nil
	}
	desk.use(s)
	return s
}

// use has requests answered by a signer.
func (d *ocspDesk) use(s *ocspSigner) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.signer = s
}
