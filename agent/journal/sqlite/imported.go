package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// ImportIssued implements journal.Jobs. A list is one transaction, during
// which nobody else has a turn: long ones are better handed over in parts.
func (j *Journal) ImportIssued(ctx context.Context, list []journal.ImportedCertificate, now time.Time) (int, error) {
	list = slices.Clone(list)
	n := 0
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		for i := range list {
			r := &list[i]
			tenants, err := importedFor(c, r.CA, r.Serial)
			if err != nil {
				return n > 0, err
			}
			if slices.Contains(tenants, r.Tenant) {
				continue
			}
			s, err := c.use(insertImported)
			if err != nil {
				return n > 0, err
			}
			n++
			if err := s.int(importedKey(r.CA, r.Serial)).text(r.CA).text(r.Serial).text(r.Tenant).time(now).exec(); err != nil {
				return true, err
			}
		}
		return n > 0, nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Imported implements journal.Jobs.
func (j *Journal) Imported(ctx context.Context, ca, serial string) ([]string, error) {
	var tenants []string
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		tenants, err = importedFor(c, ca, serial)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	return tenants, nil
}

func importedFor(c *conn, ca, serial string) ([]string, error) {
	s, err := c.use(importedBySerial)
	if err != nil {
		return nil, err
	}
	s.int(importedKey(ca, serial)).text(ca).text(serial)
	var tenants []string
	for {
		found, err := s.step()
		if err != nil || !found {
			return tenants, err
		}
		tenants = append(tenants, s.colText())
	}
}
