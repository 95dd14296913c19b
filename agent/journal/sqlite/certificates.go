package sqlite

import (
	"context"

	"github.com/certconnector/certconnector/ca"

	sqlite3 "modernc.org/sqlite/lib"
)

// Certificates lists the newest certificates of a CA's register, newest first,
// at most limit. It is for comparing the register with what others know; the
// CA itself never needs a list.
func (j *Journal) Certificates(ctx context.Context, name string, limit int) ([]ca.RegisteredCertificate, error) {
	var list []ca.RegisteredCertificate
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.prepare(`SELECT ` + certificateColumns + ` FROM certificates WHERE ca = ? ORDER BY id DESC LIMIT ?`)
		if err != nil {
			return false, err
		}
		defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
		c.used = 0
		s.text(name).int(int64(limit))
		for {
			found, err := s.step()
			if err != nil || !found {
				return false, err
			}
			list = append(list, scanCertificate(s))
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
