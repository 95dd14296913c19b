package identity

import (
	"errors"
	"maps"
)

// Inherit takes over what only the process knows, from the RA of the same
// endpoint under the configuration before: files that were replaced while it
// ran. Their keys open what devices encrypted with what GetCACert told them a
// moment ago. It is called before the RA is used.
func (r *RA) Inherit(from *RA) error {
	from.mu.Lock()
	before := append([]generation{}, from.replaced...)
	if len(from.files.pairs) > 0 {
		before = append(before, from.files)
	}
	since := maps.Clone(from.since)
	same := len(from.lineage.roles) == len(r.lineage.roles)
	from.mu.Unlock()
	if !same {
		return nil // another shape: the pairs would not fit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range before {
		if !g.same(r.files) {
			r.replaced = append(r.replaced, g)
		}
	}
	maps.Copy(r.since, since)
	return r.choose()
}

// Reread takes generations into use that somebody else made in the folder
// since it was opened, and goes on with one that waits there: the configuration
// before renewed until it was stopped.
func (r *RA) Reread() error {
	err := errors.Join(r.readFiles(), r.readNext())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load()
	err = errors.Join(err, r.choose())
	r.recall()
	return err
}

// Reread takes the newest certificate of the folder into use, as RA.Reread.
func (t *TLS) Reread() error {
	list, _, err := t.lineage.load()
	if len(list) > 0 {
		t.serve(list[len(list)-1])
	}
	t.recall()
	return err
}

// Rereader is an Own that others may have renewed.
type Rereader interface {
	Reread() error
}

var (
	_ Rereader = (*RA)(nil)
	_ Rereader = (*TLS)(nil)
)

// Reread has everything read again that somebody else may have renewed.
func (k *Keeper) Reread() error {
	var errs []error
	for _, own := range k.all() {
		if r, ok := own.(Rereader); ok {
			errs = append(errs, r.Reread())
		}
	}
	return errors.Join(errs...)
}
