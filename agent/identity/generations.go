package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/scep"
)

// lineage is a folder of generations: 0001, 0002 and so on, each with the pairs
// of all roles, the chain they were issued under, and when. A generation is
// made in the folder "next" and gets its number by one rename, when it is
// complete and checked; there is no other mark of completeness.
type lineage struct {
	folder string
	roles  []string
	keys   *keys.Keys
}

// generation is a set of pairs in the order of the lineage's roles.
type generation struct {
	number int // 0: files that a person looks after
	source string
	made   time.Time // when it was taken into use; of number 0 not known
	chain  []*x509.Certificate
	pairs  []scep.KeyPair
}

const (
	nextFolder    = "next"
	droppedFolder = "dropped"
	chainFile     = "chain.pem"
	madeFile      = "made"
)

func (l lineage) path(parts ...string) string {
	return filepath.Join(append([]string{l.folder}, parts...)...)
}

func certificateFile(role string) string { return role + ".crt.pem" }
func keyFile(role string) string         { return role + ".key.pem" }

// load reads the generations, oldest first. One that cannot be read is left
// out and reported in the error, which is for people: what was read counts.
func (l lineage) load() (list []generation, last int, err error) {
	names, err := os.ReadDir(l.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, fmt.Errorf("reading our own certificates: %w", err)
	}
	errs := []error{l.clear()}
	for _, name := range names {
		n, err := strconv.Atoi(name.Name())
		if err != nil || n <= 0 || !name.IsDir() {
			continue
		}
		last = max(last, n)
		g, err := l.read(n, l.path(name.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("generation %s: %w", name.Name(), err))
			continue
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b generation) int { return a.number - b.number })
	return list, last, errors.Join(errs...)
}

func (l lineage) read(number int, folder string) (generation, error) {
	g := generation{number: number, source: folder}
	var err error
	if g.chain, err = embedded.LoadChain(filepath.Join(folder, chainFile)); err != nil {
		return g, err
	}
	made, err := os.ReadFile(filepath.Join(folder, madeFile))
	if err == nil {
		g.made, err = time.Parse(time.RFC3339, strings.TrimSpace(string(made)))
	}
	if err != nil {
		return g, fmt.Errorf("reading when it was made: %w", err)
	}
	for _, role := range l.roles {
		p, err := l.pair(role, Files{filepath.Join(folder, certificateFile(role)), filepath.Join(folder, keyFile(role))})
		if err != nil {
			return g, err
		}
		g.pairs = append(g.pairs, p)
	}
	return g, nil
}

// pair reads a role's pair. A device that may not decrypt with the key which
// opens messages is found here, and not when the first message comes.
func (l lineage) pair(role string, f Files) (scep.KeyPair, error) {
	p, err := loadPair(l.keys, f)
	if err == nil && (role == "encryption" || role == "combined") && keys.PlaceOf(p.Key) != keys.File {
		if err = keys.CheckDecrypts(p.Key); err != nil {
			err = fmt.Errorf("%s: %w", keys.Shown(f.Key), err)
		}
	}
	return p, err
}

func loadPair(from *keys.Keys, f Files) (scep.KeyPair, error) {
	certs, err := LoadChain(f.Certificate)
	if err != nil {
		return scep.KeyPair{}, err
	}
	key, err := from.Load(f.Key)
	if err != nil {
		return scep.KeyPair{}, err
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && !pub.Equal(certs[0].PublicKey) {
		return scep.KeyPair{}, fmt.Errorf("%q holds another key than that of %q", keys.Shown(f.Key), f.Certificate)
	}
	return scep.KeyPair{Certificate: certs[0], Key: key}, nil
}

// parkedError says that a person at the CA decides.
type parkedError struct{ parked []ownenroll.Parked }

func (e *parkedError) Error() string {
	ids := make([]string, len(e.parked))
	for i, p := range e.parked {
		ids[i] = p.RequestID + " (" + p.Role + ")"
	}
	return "waiting at the CA for the approval of request " + strings.Join(ids, " and ")
}

// next takes the generation that comes as far as it goes. accept has the last
// word on it; when it refuses, everything that was made is thrown away.
func (l lineage) next(ctx context.Context, cfg ownenroll.Config, accept func(generation) error) (generation, error) {
	folder := l.path(nextFolder)
	if err := durable.MakeFolder(folder); err != nil {
		return generation{}, err
	}
	cfg.Roles, cfg.Keys = slices.Clone(cfg.Roles), l.keys
	for i := range cfg.Roles {
		cfg.Roles[i].Certificate = filepath.Join(folder, certificateFile(l.roles[i]))
		cfg.Roles[i].Key = filepath.Join(folder, keyFile(l.roles[i]))
	}
	g, err := l.finished(folder, cfg.Chain, cfg.Clock())
	if err != nil {
		result, err := ownenroll.Run(ctx, cfg)
		if err != nil {
			return generation{}, err
		}
		if len(result.Parked) > 0 {
			return generation{}, &parkedError{result.Parked}
		}
		failpoint.Hit("identity.installed")
		if g, err = l.finished(folder, cfg.Chain, cfg.Clock()); err != nil {
			return generation{}, errors.Join(err, os.RemoveAll(folder))
		}
	}
	if err := accept(g); err != nil {
		return generation{}, errors.Join(err, os.RemoveAll(folder))
	}
	return l.number(g, folder)
}

// begun tells whether the generation that comes needs no new request: of each
// role one is parked at the CA, or the certificate is there.
func (l lineage) begun() bool {
	for _, role := range l.roles {
		file := l.path(nextFolder, certificateFile(role))
		if _, err := os.Stat(file); err != nil && !ownenroll.Begun(ownenroll.Role{Certificate: file}) {
			return false
		}
	}
	return true
}

// finished reads pairs that are all in their places, as a run that was cut off
// just before the rename leaves them.
func (l lineage) finished(folder string, chain []*x509.Certificate, now time.Time) (generation, error) {
	g := generation{chain: chain, made: now.UTC().Truncate(time.Second)}
	for _, role := range l.roles {
		p, err := l.pair(role, Files{filepath.Join(folder, certificateFile(role)), filepath.Join(folder, keyFile(role))})
		if err != nil {
			return g, err
		}
		g.pairs = append(g.pairs, p)
	}
	return g, nil
}

func writeChainFile(path string, chain []*x509.Certificate) error {
	var b bytes.Buffer
	for _, c := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return durable.WriteFile(path, b.Bytes(), 0o600)
}

// number makes a generation the newest one, with a single rename.
func (l lineage) number(g generation, folder string) (generation, error) {
	if err := errors.Join(
		writeChainFile(filepath.Join(folder, chainFile), g.chain),
		durable.WriteFile(filepath.Join(folder, madeFile), []byte(g.made.Format(time.RFC3339)+"\n"), 0o600),
	); err != nil {
		return generation{}, err
	}
	_, last, _ := l.load() // what cannot be read has a number too
	g.number = last + 1
	g.source = l.path(fmt.Sprintf("%04d", g.number))
	failpoint.Hit("identity.complete")
	if err := durable.Rename(folder, g.source); err != nil {
		return generation{}, fmt.Errorf("taking new certificates into use: %w", err)
	}
	return g, nil
}

// drop removes a generation that is of no use any more, with its keys: out of
// the way by one rename first, so that half of it is never met.
func (l lineage) drop(g generation) error {
	if g.number == 0 {
		return nil
	}
	if err := l.clear(); err != nil {
		return err
	}
	if err := durable.Rename(g.source, l.path(droppedFolder)); err != nil {
		return fmt.Errorf("removing certificates of no more use: %w", err)
	}
	return l.clear()
}

// clear finishes a removal that was cut off: nobody takes what is left of a
// generation for a damaged one.
func (l lineage) clear() error {
	path := l.path(droppedFolder)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing certificates of no more use: %w", err)
	}
	return durable.SyncFolder(l.folder)
}

// notBefore is when the youngest pair begins, and ends when the first ends.
func (g generation) notBefore() (t time.Time) {
	for _, p := range g.pairs {
		if p.Certificate.NotBefore.After(t) {
			t = p.Certificate.NotBefore
		}
	}
	return t
}

func (g generation) notAfter() (t time.Time) {
	for _, p := range g.pairs {
		if t.IsZero() || p.Certificate.NotAfter.Before(t) {
			t = p.Certificate.NotAfter
		}
	}
	return t
}

// renewAt is when the first pair is at two thirds of its life.
func (g generation) renewAt() (t time.Time) {
	for _, p := range g.pairs {
		if at := twoThirds(p.Certificate); t.IsZero() || at.Before(t) {
			t = at
		}
	}
	return t
}

func (g generation) validAt(now time.Time) bool {
	return len(g.pairs) > 0 && !now.Before(g.notBefore()) && now.Before(g.notAfter())
}

// signedBy tells whether a CA issued every certificate.
func (g generation) signedBy(chain []*x509.Certificate) bool {
	for _, p := range g.pairs {
		if len(chain) == 0 || p.Certificate.CheckSignatureFrom(chain[0]) != nil {
			return false
		}
	}
	return len(g.pairs) > 0
}

func (g generation) same(other generation) bool {
	return slices.EqualFunc(g.pairs, other.pairs, func(a, b scep.KeyPair) bool { return a.Certificate.Equal(b.Certificate) })
}
