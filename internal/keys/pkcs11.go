//go:build pkcs11

package keys

import (
	"bytes"
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/secret"
)

// modules are the tokens that keys were asked of.
type modules struct {
	cfg PKCS11
	log *zap.Logger

	mu     sync.Mutex // guards the rest
	tokens map[string]*token
}

func newModules(cfg PKCS11, log *zap.Logger) *modules {
	return &modules{cfg: cfg, log: log, tokens: map[string]*token{}}
}

// load finds a key pair in its token.
func (m *modules) load(ref string) (crypto.Signer, error) {
	u, err := parsePKCS11(ref)
	if err != nil {
		return nil, err
	}
	u.module = cmp.Or(u.module, m.cfg.Module)
	if u.module == "" {
		return nil, errors.New("no module is configured; set keys.pkcs11.module to the library of the device's maker")
	}
	return newPKCS11Key(m.token(u), u)
}

func (m *modules) token(u pkcs11URI) *token {
	name := fmt.Sprintf("%q %q %q %q %q", u.module, u.token, u.serial, slotText(u.slot), u.pinFile)
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tokens[name]
	if t == nil {
		t = &token{uri: u, pin: m.cfg.PIN, log: m.log}
		m.tokens[name] = t
	}
	return t
}

func (m *modules) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, t := range m.tokens {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// token is one token and its login.
type token struct {
	uri pkcs11URI
	pin func() (secret.Text, error)
	log *zap.Logger

	mu      sync.RWMutex      // read: in use; write: being opened or closed
	context *crypto11.Context // nil: not open
	opened  int               // how often; keys are found anew after each
	refused secret.Text       // a PIN that the token did not take
}

const (
	// maxSessions bounds how many operations go on at once in one token.
	maxSessions = 32
	// sessionWait is how long an operation waits for a free session.
	sessionWait = 10 * time.Second
)

// open logs in, unless somebody did so since the time that the caller knows
// of, and returns how often that was done.
func (t *token) open(known int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.context != nil && t.opened > known {
		return nil
	}
	if t.context != nil {
		_ = t.context.Close() // it is of no use any more
		t.context = nil
	}
	pin, err := t.readPIN()
	if err != nil {
		return err
	}
	if t.refused != "" && pin == t.refused {
		return fmt.Errorf("%w: the token refused it before, and is not asked again: a token locks itself after a few attempts; correct the PIN", ErrPINRefused)
	}
	context, err := crypto11.Configure(&crypto11.Config{
		Path: t.uri.module, TokenLabel: t.uri.token, TokenSerial: t.uri.serial, SlotNumber: t.uri.slot,
		Pin: pin.Reveal(), LoginNotSupported: pin == "", MaxSessions: maxSessions, PoolWaitTimeout: sessionWait,
	})
	if err != nil {
		err = t.explain(err)
		if errors.Is(err, ErrPINRefused) {
			t.refused = pin
		}
		return err
	}
	t.context, t.refused = context, ""
	t.opened++
	return nil
}

func (t *token) readPIN() (secret.Text, error) {
	if t.uri.pinFile == "" {
		if t.pin == nil {
			return "", nil
		}
		return t.pin()
	}
	if err := secret.CheckPrivate(t.uri.pinFile); err != nil {
		return "", err
	}
	b, err := os.ReadFile(t.uri.pinFile)
	if err != nil {
		return "", fmt.Errorf("reading the PIN: %w", err)
	}
	defer clear(b)
	return secret.Text(bytes.TrimRight(b, "\r\n")), nil
}

// explain says what to do about a token that cannot be opened.
func (t *token) explain(err error) error {
	if _, missing := os.Stat(t.uri.module); missing != nil {
		return fmt.Errorf("the PKCS #11 module cannot be read: %w", missing)
	}
	code, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return fmt.Errorf("module %q, token %s: %w", t.uri.module, t.name(), err)
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT:
		err = fmt.Errorf("%w: wrong PIN: %w", ErrPINRefused, err)
	case pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
		err = fmt.Errorf("%w: no PIN of this token looks so: %w", ErrPINRefused, err)
	case pkcs11.CKR_PIN_EXPIRED:
		err = fmt.Errorf("%w: it has expired; set a new one: %w", ErrPINRefused, err)
	case pkcs11.CKR_PIN_LOCKED:
		err = fmt.Errorf("%w: the PIN is locked; the token's security officer sets a new one: %w", ErrPINRefused, err)
	}
	return fmt.Errorf("logging in to token %s: %w", t.name(), err)
}

func (t *token) name() string {
	switch {
	case t.uri.token != "":
		return fmt.Sprintf("%q", t.uri.token)
	case t.uri.serial != "":
		return "with serial number " + t.uri.serial
	}
	return "in slot " + slotText(t.uri.slot)
}

// use does something with the open token.
func (t *token) use(do func(context *crypto11.Context, opened int) error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.context == nil {
		return errNotOpen
	}
	return do(t.context, t.opened)
}

// errNotOpen says that a token must be opened first.
var errNotOpen = errors.New("the token is not open")

func (t *token) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.context == nil {
		return nil
	}
	err := t.context.Close()
	t.context = nil
	return err
}

// gone tells that a token, a session or a handle was lost, so that logging in
// again may help. What a device says about a ciphertext (often
// CKR_GENERAL_ERROR) is not among it: strangers send those.
func gone(err error) bool {
	if errors.Is(err, errNotOpen) {
		return true
	}
	code, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return false
	}
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	}
	return false
}
