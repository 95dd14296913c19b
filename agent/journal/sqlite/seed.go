package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// SeedOptions describe the history that Seed makes up.
type SeedOptions struct {
	Rows     int       // enrolments, each with a row in the register
	Endpoint string    // default "corp"
	CA       string    // default "lab"
	Until    time.Time // when the newest was issued, one a second before; default an hour ago
	DER      []byte    // stands for every certificate; default 1,100 bytes

	Owed SeedOwed // further enrolments, which owe something
}

// SeedOwed describes a backlog as an outage of forty minutes leaves it: of ten
// enrolments five have a certificate that is withheld, three have failed, and
// of two the certificate must be revoked.
type SeedOwed struct {
	N           int
	SealedCSR   []byte                     // stands for every request
	Certificate func(serial []byte) []byte // DER
	GiveUp      time.Time                  // until when certificates are withheld
}

// Seed fills a closed journal with finished enrolments, for tests and load
// tests of a journal that has been in use for long. It is no part of the
// service.
func Seed(path string, o SeedOptions) (err error) {
	if o.Endpoint == "" {
		o.Endpoint = "corp"
	}
	if o.CA == "" {
		o.CA = "lab"
	}
	if o.Until.IsZero() {
		o.Until = time.Now().Add(-time.Hour)
	}
	if o.DER == nil {
		o.DER = make([]byte, 1100)
	}
	c, err := openConn(path, "")
	if err != nil {
		return describe(path, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.exec(settings...); err != nil {
		return describe(path, err)
	}
	// The file is not in use: it is worth nothing until Seed has ended.
	if err := c.exec(`PRAGMA synchronous = OFF`, `PRAGMA cache_size = -262144`); err != nil {
		return describe(path, err)
	}
	const portion = 20_000
	for i := 0; i < o.Rows; i += portion {
		if err := seedPortion(c, &o, i, min(i+portion, o.Rows)); err != nil {
			return describe(path, err)
		}
	}
	for i := 0; i < o.Owed.N; i += portion {
		if err := seedOwed(c, &o, i, min(i+portion, o.Owed.N)); err != nil {
			return describe(path, err)
		}
	}
	return c.exec(`PRAGMA synchronous = FULL`, `PRAGMA wal_checkpoint(TRUNCATE)`)
}

func seedPortion(c *conn, o *SeedOptions, from, to int) error {
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if err := seedRow(c, o, i); err != nil {
			return err
		}
	}
	return c.exec(`COMMIT`)
}

func seedOwed(c *conn, o *SeedOptions, from, to int) error {
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if err := seedDebt(c, o, i); err != nil {
			return err
		}
	}
	return c.exec(`COMMIT`)
}

func seedDigest(what string, i int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("seed "+what), uint64(i)))
}

// seedDebt records an enrolment that owes something.
func seedDebt(c *conn, o *SeedOptions, i int) error {
	const outage = 40 * time.Minute
	at := time.Now().Add(time.Duration(i-o.Owed.N) * outage / time.Duration(o.Owed.N))
	key, csr := seedDigest("owing key", i), seedDigest("owing csr", i)
	serial := key[4:20]
	serial[0] = serial[0]&0x3f | 0x40
	r, err := insert(c, &journal.Intent{
		Endpoint: o.Endpoint, TransactionID: fmt.Sprintf("%X", key[:20]), SignerKey: key, SignerID: key, CSRKey: key, CSRDigest: csr,
		Names: seedDigest("owing names", i), ChallengeID: fmt.Sprintf("%x", seedDigest("owing challenge", i)), CA: o.CA, Template: "device",
		Subject: fmt.Sprintf("CN=owing-%d", i), SealedCSR: o.Owed.SealedCSR, Notify: true, Now: at, GiveUp: o.Owed.GiveUp,
	})
	if err != nil {
		return err
	}
	e := &r.Entry
	st := journal.Step{Now: at, NextAt: o.Owed.GiveUp}
	why := &journal.Failure{Rule: "ca_unavailable", FailInfo: 2, HResult: ca.HResultUnavailable, Text: "the CA could not be reached while the device waited"}
	switch n := i % 10; {
	case n < 5:
		st.To, st.Owe = journal.Withheld, []journal.DebtKind{journal.OweSuccess}
	case n < 8:
		st.To, st.Owe, st.Failure = journal.Failed, []journal.DebtKind{journal.OweFailure}, why
	default:
		st.To, st.Owe, st.Failure = journal.Abandoned, []journal.DebtKind{journal.OweRevocation}, why
	}
	if st.To != journal.Failed {
		st.Certificate, st.Serial = o.Owed.Certificate(serial), fmt.Sprintf("%X", serial)
		rc := ca.RegisteredCertificate{DER: st.Certificate, CSRDigest: csr, IssuedAt: at, NotAfter: at.AddDate(1, 0, 0)}
		if err := insertRegistered(c, o.CA, serial, &rc); err != nil {
			return err
		}
	}
	_, err = step(c, *e, &st)
	return err
}

func seedRow(c *conn, o *SeedOptions, i int) error {
	digest := func(what string) [32]byte { return seedDigest(what, i) }
	at := o.Until.Add(time.Duration(i-o.Rows) * time.Second)
	key, csr, challenge := digest("key"), digest("csr"), digest("challenge")
	r, err := insert(c, &journal.Intent{
		Endpoint: o.Endpoint, TransactionID: fmt.Sprintf("%X", key[:20]), SignerKey: key, SignerID: key, CSRKey: key, CSRDigest: csr,
		Names: digest("names"), ChallengeID: fmt.Sprintf("%x", challenge), CA: o.CA, Template: "device",
		Subject: fmt.Sprintf("CN=seeded-%d", i), Now: at, GiveUp: at.Add(time.Hour),
	})
	if err != nil {
		return err
	}
	e := &r.Entry
	e.State, e.NextAt, e.Serial = journal.Released, time.Time{}, fmt.Sprintf("%X", key[4:20])
	if err := store(c, e, false, o.DER, true); err != nil {
		return err
	}
	rc := ca.RegisteredCertificate{DER: o.DER, CSRDigest: csr, IssuedAt: at, NotAfter: at.AddDate(1, 0, 0)}
	return insertRegistered(c, o.CA, key[4:20], &rc)
}
