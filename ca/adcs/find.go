package adcs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// windowSlack is what the clocks of CA and connector may differ by in a search.
const windowSlack = 10 * time.Minute

// finder searches the CA's database.
type finder struct{ c *CA }

// candidate is a row that holds the request we look for.
type candidate struct {
	id          uint32
	disposition uint32
	status      uint32
	untagged    bool
}

// Find implements ca.Finder. It reads the rows of the time window and compares
// the request's bytes here: [MS-CSRA] promises no search by them. Only a
// window that was read to its end proves absence.
func (f finder) Find(ctx context.Context, q ca.Query) (*ca.Issued, error) {
	c := f.c
	ctx, cancel := c.within(ctx)
	defer cancel()
	select {
	case c.search <- struct{}{}:
		defer func() { <-c.search }()
	case <-ctx.Done():
		return nil, c.unreachable("search", ctx.Err(), 0)
	}
	var list []candidate
	var issued *ca.Issued
	const step = "searching the CA's database"
	err := c.administer(ctx, step, func(ctx context.Context, a *admin) (err error) {
		if err := c.mayRead(ctx, a); err != nil {
			return err
		}
		if list, err = c.candidates(ctx, a, q); err != nil {
			return err
		}
		issued, err = c.pick(ctx, a, q, list)
		return err
	})
	if code, ok := answered(err); ok && code == codeInvalid {
		c.forgetSchema()
	}
	switch {
	case errors.Is(err, ca.ErrForbidden):
		return c.walk(ctx, q, err)
	case err != nil:
		return nil, err
	case issued != nil:
		c.forget(q.CSRDigest)
		return issued, nil
	}
	return nil, c.verdict(q, list)
}

// mayRead gives a missing right its own advice: a refusal of this question
// itself means DCOM access or a CA without remote administration.
func (c *CA) mayRead(ctx context.Context, a *admin) error {
	readable, ret, err := a.serverState(ctx)
	if err != nil {
		return err
	}
	const step = "asking for the right to search"
	if err := c.codeOf(step, ret); err != nil {
		return err
	}
	if !readable {
		return &problem{ca: c.name, step: step + ": grant the account Read on the Security tab of the CA, or configure find off",
			kind: ca.ErrForbidden, code: codeAccessDenied}
	}
	return nil
}

// candidates reads the window.
func (c *CA) candidates(ctx context.Context, a *admin, q ca.Query) ([]candidate, error) {
	schema, err := c.schema(ctx, a)
	if err != nil {
		return nil, err
	}
	id := func(name string) uint32 { return schema[name].id }
	var where []restriction
	if !q.From.IsZero() {
		where = append(where, restriction{id(colSubmitted), greaterOrEqual, dateValue(q.From.Add(-windowSlack))})
	}
	if !q.To.IsZero() {
		where = append(where, restriction{id(colSubmitted), lessOrEqual, dateValue(q.To.Add(windowSlack))})
	}
	cols := []uint32{id(colRequestID), id(colDisposition), id(colRaw)}
	for _, name := range []string{colAttributes, colStatus} {
		if _, ok := schema[name]; ok {
			cols = append(cols, id(name))
		}
	}
	want := tag(q.CSRDigest)
	var list []candidate
	err = c.readView(ctx, a, where, cols, func(r row) bool {
		c.seen(r.id)
		has, tagged := tagOf(r.text(id(colAttributes)))
		raw, stored := r.cells[id(colRaw)]
		// The bytes decide. The tag is a hint where the CA kept no bytes.
		if stored && sha256.Sum256(raw) != q.CSRDigest || !stored && has != want {
			return false
		}
		disposition, _ := r.long(id(colDisposition))
		status, _ := r.long(id(colStatus))
		list = append(list, candidate{id: r.id, disposition: disposition, status: status, untagged: !tagged})
		return false
	})
	return list, err
}

// tagOf finds our attribute. The CA takes blanks and hyphens out of names.
func tagOf(attributes string) (value string, ok bool) {
	normal := strings.NewReplacer(" ", "", "-", "")
	for line := range strings.FieldsFuncSeq(attributes, func(r rune) bool { return r == '\n' || r == '\r' }) {
		name, value, found := strings.Cut(line, ":")
		if found && strings.EqualFold(normal.Replace(name), tagName) {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// state of a row. The numbers of real databases and those that [MS-CSRA] notes
// differ and share none, so both are read, and never restricted by.
type state int

const (
	stateUnknown state = iota
	statePending
	stateIssued
	stateRevoked
	stateRefused
)

func stateOf(disposition uint32) state {
	switch disposition {
	case 20, dispositionIssued:
		return stateIssued
	case 21, dispositionRevoked:
		return stateRevoked
	case 8, 9, dispositionPending, dispositionNothing:
		return statePending
	case 30, 31, dispositionError, dispositionDenied:
		return stateRefused
	}
	return stateUnknown
}

// pick returns the newest certificate among the candidates, nil for none.
func (c *CA) pick(ctx context.Context, a *admin, q ca.Query, list []candidate) (*ca.Issued, error) {
	var newest *candidate
	issued := 0
	for i := range list {
		if stateOf(list[i].disposition) != stateIssued {
			continue
		}
		issued++
		if newest == nil || list[i].id > newest.id {
			newest = &list[i]
		}
	}
	if newest == nil {
		return nil, nil
	}
	if issued > 1 {
		c.log.Warn("the CA issued several certificates for one request; the newest is used, revoke the others",
			zap.Int("certificates", issued), zap.Uint32("request_id", newest.id))
	}
	if newest.untagged {
		c.log.Info("a request was found by its bytes; the CA kept no attributes with it", zap.Uint32("request_id", newest.id))
	}
	der, err := c.certificateOf(ctx, a, newest.id)
	if err != nil {
		return nil, err
	}
	step := fmt.Sprintf("reading the certificate of request %d", newest.id)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, c.unknown(step, err, 0)
	}
	if sha256.Sum256(cert.RawSubjectPublicKeyInfo) != q.KeyDigest {
		return nil, c.unknown(step, errOtherKey, 0)
	}
	return &ca.Issued{Certificate: cert, RequestID: strconv.FormatUint(uint64(newest.id), 10)}, nil
}

func (c *CA) certificateOf(ctx context.Context, a *admin, id uint32) (der []byte, err error) {
	schema, err := c.schema(ctx, a)
	if err != nil {
		return nil, err
	}
	where := []restriction{{schema[colRequestID].id, equal, longValue(id)}}
	err = c.readView(ctx, a, where, []uint32{schema[colRequestID].id, schema[colCertificate].id}, func(r row) bool {
		if r.id != id {
			return false
		}
		der = bytes.Clone(r.cells[schema[colCertificate].id])
		return true
	})
	return der, err
}

// verdict reads candidates without a certificate: pending, refused, or none.
func (c *CA) verdict(q ca.Query, list []candidate) error {
	const step = "searching the CA's database"
	var refused *candidate
	for i := len(list) - 1; i >= 0; i-- {
		switch row := list[i]; stateOf(row.disposition) {
		case statePending:
			return &ca.Pending{RequestID: strconv.FormatUint(uint64(row.id), 10)}
		case stateRevoked:
			return &ca.Denied{HResult: int32(-2146885616), Text: fmt.Sprintf("request %d was issued and revoked at the CA", row.id)}
		case stateUnknown:
			return c.unknown(step, fmt.Errorf("request %d has disposition %d, which means nothing", row.id, row.disposition), 0)
		case stateRefused:
			if refused == nil {
				refused = &list[i]
			}
		}
	}
	if refused != nil && !ca.IsTransient(int32(refused.status)) {
		code := int32(refused.status)
		if code >= 0 {
			code = ca.HResultFail
		}
		return &ca.Denied{HResult: code, Text: fmt.Sprintf("request %d was refused: %s", refused.id, ca.Advice(code))}
	}
	return c.absent(q, step)
}

// absent is ErrNotFound once the row can no longer come: it is made when the
// CA takes up the request, and the CA goes on after our connection died.
func (c *CA) absent(q ca.Query, step string) error {
	c.mu.Lock()
	at, ours := c.sent[q.CSRDigest]
	c.mu.Unlock()
	if q.Sent.After(at) { // what a process before this one sent
		at, ours = q.Sent, true
	}
	if ours {
		if wait := at.Add(c.settled()).Sub(c.now()); wait > 0 {
			return c.unknown(step, fmt.Errorf("not there yet, and may still come for %v", wait.Round(time.Second)), 0)
		}
		c.forget(q.CSRDigest)
	}
	return &problem{ca: c.name, step: step, kind: ca.ErrNotFound}
}
