package entra

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
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

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/durable"
)

// Files of the folder beside those of the generations, which are 0001.key
// (as package internal/keys writes it), 0001.pem, 0001.cer (DER, for the portal) and 0001.json.
const (
	idFile   = "id"
	lockFile = "lock"
)

// maxFile bounds what is read of a file.
const maxFile = 64 << 10

func (s *Store) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Store) file(generation int, ext string) string {
	return s.path(fmt.Sprintf("%04d.%s", generation, ext))
}

// openFolder makes folder and ID when they are missing.
func (s *Store) openFolder() error {
	if err := durable.MakeFolder(s.Dir); err != nil {
		return err
	}
	b, err := durable.ReadFile(s.path(idFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = s.makeID()
	}
	if err != nil {
		return err
	}
	s.id = strings.TrimSpace(string(b))
	if raw, err := hex.DecodeString(s.id); err != nil || len(raw) != 4 {
		return fmt.Errorf("%q holds no ID of eight hexadecimal digits; restore it, or remove it to have a new one made", s.path(idFile))
	}
	return nil
}

// makeID makes the folder's ID, unless another process was first.
func (s *Store) makeID() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if b, err := durable.ReadFile(s.path(idFile), maxFile); !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	var id [4]byte
	rand.Read(id[:])
	b := []byte(hex.EncodeToString(id[:]) + "\n")
	return b, durable.WriteFile(s.path(idFile), b, 0o600)
}

// reload reads all generations. The caller holds mu.
func (s *Store) reload() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("reading the Entra certificates: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		if base, _, ok := strings.Cut(e.Name(), "."); ok {
			if n, err := strconv.Atoi(base); err == nil && n > 0 && fmt.Sprintf("%04d", n) == base {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	var list []*generation
	var foreign []string
	for _, n := range slices.Compact(numbers) {
		g, err := s.readGeneration(n)
		if err != nil {
			foreign = append(foreign, fmt.Sprintf("%04d: %v", n, err))
			continue
		}
		list = append(list, g)
	}
	for _, f := range foreign {
		if !slices.Contains(s.foreign, f) {
			s.Log.Error("a generation of the Entra certificate cannot be used", zap.String("tenant", s.Tenant), zap.String("dir", s.Dir), zap.String("reason", f))
		}
	}
	s.list, s.foreign = list, foreign
	return nil
}

// nextNumber skips whatever is in the folder, usable or not.
func (s *Store) nextNumber() (int, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.Atoi(base); err == nil {
			last = max(last, n)
		}
	}
	return last + 1, nil
}

// readGeneration reads one generation. One without a record was cut off while
// it was made, before anybody was told of it: it is as good as made.
func (s *Store) readGeneration(n int) (*generation, error) {
	cert, err := readCertificate(s.file(n, "pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no certificate: making it was cut off, or it was removed; remove what is left when it is not needed")
	}
	if err != nil {
		return nil, err
	}
	g := &generation{Credential: Credential{Certificate: cert}}
	if g.record, err = readRecord(s.file(n, "json")); errors.Is(err, fs.ErrNotExist) {
		g.record, err = record{Generation: n, State: Made, Fingerprint: Fingerprint(cert.Raw), MadeAt: cert.NotBefore.Add(backDate)}, nil
	}
	switch {
	case err != nil:
		return nil, err
	case g.Generation != n || g.Fingerprint != Fingerprint(cert.Raw):
		return nil, errors.New("the record belongs to another certificate; restore the three files of one generation together")
	}
	if g.State == Retired {
		if err := durable.Remove(s.file(n, "key")); err != nil {
			s.Log.Warn("the key of a retired certificate could not be erased", zap.String("path", s.file(n, "key")), zap.Error(err))
		}
		return g, nil
	}
	key, err := s.readKey(s.file(n, "key"))
	if err != nil {
		return nil, err
	}
	if !key.Public().(*rsa.PublicKey).Equal(cert.PublicKey) {
		return nil, errors.New("key and certificate do not belong together")
	}
	g.Signer = key
	return g, nil
}

func readRecord(path string) (record, error) {
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("the record %q is damaged: %w", path, err)
	}
	if !r.State.valid() {
		return record{}, fmt.Errorf("the record %q has the unknown state %q", path, r.State)
	}
	return r, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%q holds no certificate in PEM form", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", path, err)
	}
	return cert, nil
}

func (s *Store) readKey(path string) (crypto.Signer, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%q is no file of this program", path)
	}
	key, err := s.Keys.Load(path)
	if err != nil {
		return nil, err
	}
	if _, ok := key.Public().(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("private key %q is of another kind: Entra ID takes RSA keys", path)
	}
	return key, nil
}

// save records a generation. The caller holds mu, or nobody else has the generation yet.
func (s *Store) save(g *generation) error {
	b, err := json.MarshalIndent(g.record, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.file(g.Generation, "json"), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("recording generation %d of the Entra certificate: %w", g.Generation, err)
	}
	return nil
}
