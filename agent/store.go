package agent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Store is the journal, and in the same database the register of embedded CAs
// and what policy modules remember. New opens the configured one, unless it is
// handed one that several agents share.
type Store interface {
	journal.Journal
	ca.Register
	policymodule.Ledger
	policymodule.Verdicts

	// RestoredAt is when the journal was brought back from a backup; zero: never.
	RestoredAt() time.Time
	// Err says why the journal takes no work any more; nil: it does.
	Err() error
}

// openStore opens the configured journal.
func (a *Agent) openStore() (Store, error) {
	cfg := a.cfg.Journal.SQLite
	if err := secret.CheckPrivate(cfg.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return sqlite.Open(cfg.Path, sqlite.Options{Clock: a.options.Clock, Witness: cfg.Witness})
}

// instance names this installation among those that share a journal: the host,
// for people, and a random part that stays in state_dir. Whoever asks a source
// for work is known by it.
func (c *Config) instance() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	path := filepath.Join(c.StateDir, "instance")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, 8)
		if _, err := rand.Read(b); err != nil {
			return "", err
		}
		b = []byte(hex.EncodeToString(b))
		err = durable.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("the name of this instance: %w", err)
	}
	return host + "/" + strings.TrimSpace(string(b)), nil
}
