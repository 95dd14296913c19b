package adcs

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/certconnector/certconnector/internal/negotiate"
)

const (
	// ticketAge is how long a service ticket is used before the next is
	// fetched: far below the ten hours of a domain's default policy, and long
	// enough that the KDC is no part of a request's time.
	ticketAge = 30 * time.Minute
	// maxKDCReply bounds what a KDC may announce; the library allocates it.
	maxKDCReply = 1 << 20
)

// kerberosSignIn signs in with a service ticket that it keeps. The library
// would ask the KDC twice for every bind.
type kerberosSignIn struct {
	who  negotiate.Kerberos
	conf *config.Config
	now  func() time.Time

	mu      sync.Mutex
	tickets map[string]serviceTicket // by target
}

type serviceTicket struct {
	ticket  messages.Ticket
	key     types.EncryptionKey
	client  *credentials.Credentials
	fetched time.Time
	turn    *sync.Mutex // held by who makes an authenticator
}

func newKerberos(who negotiate.Kerberos, now func() time.Time) (*kerberosSignIn, error) {
	if err := who.Check(); err != nil {
		return nil, fmt.Errorf("kerberos: %w", err)
	}
	conf, err := realms(who, krb5.DefaultKRB5ConfPath)
	if err != nil {
		return nil, fmt.Errorf("kerberos: %w", err)
	}
	if who.Keytab != "" {
		if _, err := keytab.Load(who.Keytab); err != nil {
			return nil, fmt.Errorf("kerberos: reading keytab %s: %w", who.Keytab, err)
		}
	}
	return &kerberosSignIn{who: who, conf: krb5.ParsedLibDefaults(conf), now: now, tickets: map[string]serviceTicket{}}, nil
}

// realms reads the krb5.conf: the configured one, or else the system's. Where
// there is none either, as on Windows, DNS names the KDCs of the principal's realm.
func realms(who negotiate.Kerberos, system string) (*config.Config, error) {
	path := cmp.Or(who.Config, os.Getenv("KRB5_CONFIG"))
	if path == "" {
		path = system
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			_, realm, _ := strings.Cut(who.Principal, "@")
			conf := config.New()
			conf.LibDefaults.DefaultRealm, conf.LibDefaults.DNSLookupKDC = realm, true
			return conf, nil
		}
	}
	conf, err := config.Load(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s (give the path of a krb5.conf that names the realm's KDCs): %w", path, err)
	}
	return conf, nil
}

// Name implements Mechanism.
func (*kerberosSignIn) Name() string { return "kerberos" }

// Refused implements Mechanism: the CA's key may have changed, so the next
// bind fetches a new ticket.
func (k *kerberosSignIn) Refused() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.tickets)
}

// Options implements Mechanism.
func (k *kerberosSignIn) Options(ctx context.Context, target string) ([]dcerpc.Option, error) {
	if k.who.SPN != "" {
		target = k.who.SPN
	}
	t, err := k.ticket(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("kerberos: no ticket for %s as %s (check the service principal name, key or password, KDC and clock): %w",
			target, k.who.Principal, err)
	}
	// The library insists on a credential; the ticket is the real one.
	none := credential.NewFromPassword(k.who.Principal, "", credential.AllowEmptyPassword())
	return []dcerpc.Option{dcerpc.WithCredentials(none), dcerpc.WithMechanism(ticketMechanism{ticket: t})}, nil
}

func (k *kerberosSignIn) ticket(ctx context.Context, target string) (serviceTicket, error) {
	k.mu.Lock()
	defer k.mu.Unlock() // one asks, the others wait for the answer
	if t, ok := k.tickets[target]; ok && k.now().Sub(t.fetched) < ticketAge {
		return t, nil
	}
	t, err := k.fetch(ctx, target)
	if err != nil {
		return serviceTicket{}, err
	}
	k.tickets[target] = t
	return t, nil
}

// fetch signs in at the KDC and asks for a service ticket. The library's
// client is thrown away after that: it would renew in the background.
func (k *kerberosSignIn) fetch(ctx context.Context, target string) (t serviceTicket, err error) {
	defer recoverInto(&err)
	cl, err := k.client(ctx)
	if err != nil {
		return t, err
	}
	who := cl.Credentials
	defer cl.Destroy()
	if who.HasPassword() || who.HasKeytab() {
		if err := cl.Login(); err != nil {
			return t, contextOr(ctx, err)
		}
	}
	ticket, key, err := cl.GetServiceTicket(target)
	if err != nil {
		return t, contextOr(ctx, err)
	}
	return serviceTicket{ticket: ticket, key: key, client: who, fetched: k.now(), turn: new(sync.Mutex)}, nil
}

func (k *kerberosSignIn) client(ctx context.Context) (*client.Client, error) {
	settings := []func(*client.Settings){client.DisablePAFXFAST(true), client.Dialer(kdcDialer{ctx})}
	user, realm, _ := strings.Cut(k.who.Principal, "@")
	switch {
	case k.who.Keytab != "":
		keys, err := keytab.Load(k.who.Keytab) // again: it may have been replaced
		if err != nil {
			return nil, fmt.Errorf("reading keytab: %w", err)
		}
		return client.NewWithKeytab(user, realm, keys, k.conf, settings...), nil
	case k.who.CCache != "":
		cache, err := credentials.LoadCCache(k.who.CCache)
		if err != nil {
			return nil, fmt.Errorf("reading credential cache: %w", err)
		}
		if have := cache.GetClientPrincipalName().PrincipalNameString() + "@" + cache.GetClientRealm(); !strings.EqualFold(have, k.who.Principal) {
			return nil, fmt.Errorf("the credential cache is that of %s", have)
		}
		return client.NewFromCCacheOptionalTGT(cache, k.conf, settings...)
	default:
		return client.NewWithPassword(user, realm, k.who.Password.Reveal(), k.conf, settings...), nil
	}
}

func contextOr(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return errors.Join(cause, err)
	}
	return err
}

// kdcDialer gives up with the request.
type kdcDialer struct{ ctx context.Context }

// Dial implements the library's dialer.
func (d kdcDialer) Dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(d.ctx, network, address)
	if err != nil || network != "tcp" {
		return conn, err
	}
	return &kdcConn{Conn: conn}, nil
}

// kdcConn refuses a reply whose announced length nobody should allocate.
type kdcConn struct {
	net.Conn
	announced bool
}

// Read implements net.Conn; the library reads the length by itself first.
func (c *kdcConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.announced && err == nil {
		c.announced = true
		if n != 4 || len(p) != 4 || binary.BigEndian.Uint32(p) > maxKDCReply {
			return 0, errors.New("the KDC's reply has no sensible length")
		}
	}
	return n, err
}
