package negotiate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/asn1tools"
	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/gssapi"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/chksumtype"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/nametype"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/spnego"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// systemConfig is where MIT Kerberos looks.
const systemConfig = "/etc/krb5.conf"

// freshFor is how long a ticket must be good for to be used: a request that
// waits must not arrive with one that just ended.
const freshFor = 5 * time.Minute

// ticket is a service ticket with what is needed to use it.
type ticket struct {
	ticket messages.Ticket
	key    types.EncryptionKey
	realm  string
	client types.PrincipalName
	ends   time.Time

	last atomic.Int64 // microsecond of the newest authenticator, since 1970
}

// moment is now, or just after it: no two authenticators have the same.
func (t *ticket) moment() time.Time {
	for {
		last := t.last.Load()
		if next := max(time.Now().UnixMicro(), last+1); t.last.CompareAndSwap(last, next) {
			return time.UnixMicro(next).UTC()
		}
	}
}

// tickets gets service tickets for one name and keeps the last. It runs no
// renewal in the background: a ticket is fetched anew before it ends.
type tickets struct {
	Kerberos
	spn string
	now func() time.Time

	busy chan struct{} // of one place: held by who looks at the rest, and may wait for a KDC
	seen stamp
	held *ticket
}

// get returns a ticket; fresh forgets the one before. An error means that
// nothing was sent to the service.
func (s *tickets) get(ctx context.Context, fresh bool) (t *ticket, err error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	files := s.Config
	if files == "" {
		files = systemConfig
	}
	now, err := stampOf(files, s.Keytab, s.CCache)
	if err != nil {
		return nil, fmt.Errorf("kerberos: %w", err)
	}
	if s.held != nil && !fresh && now == s.seen && s.now().Add(freshFor).Before(s.held.ends) {
		return s.held, nil
	}
	// The library reads keytabs, caches and configurations without checking
	// every length.
	defer func() {
		if v := recover(); v != nil {
			t, err = nil, fmt.Errorf("kerberos: keytab, credential cache or krb5.conf is damaged: %v", v)
		}
	}()
	conf, err := config.Load(files)
	if err != nil {
		return nil, fmt.Errorf("kerberos: reading %q: %w", files, err)
	}
	// The library never asks for a context; the connections to the KDC have it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := client.Dialer(kdcDialer{ctx})
	if s.CCache != "" {
		t, err = s.fromCache(conf, dial)
	} else {
		t, err = s.fromKey(conf, dial)
	}
	if err != nil {
		return nil, fmt.Errorf("kerberos: no ticket of %s for %s: %w", s.Principal, s.spn, err)
	}
	s.seen, s.held = now, t
	return t, nil
}

// fromKey signs in at the KDC by keytab or password.
func (s *tickets) fromKey(conf *config.Config, dial func(*client.Settings)) (*ticket, error) {
	name, realm, _ := strings.Cut(s.Principal, "@")
	var cl *client.Client
	if s.Keytab != "" {
		kt, err := keytab.Load(s.Keytab)
		if err != nil {
			return nil, fmt.Errorf("reading keytab %q: %w", s.Keytab, err)
		}
		cl = client.NewWithKeytab(name, realm, kt, conf, dial)
	} else {
		cl = client.NewWithPassword(name, realm, s.Password.Reveal(), conf, dial)
	}
	defer cl.Destroy() // a referral leaves a session that renews itself
	request, err := messages.NewASReqForTGT(realm, conf, cl.Credentials.CName())
	if err != nil {
		return nil, err
	}
	reply, err := cl.ASExchange(realm, request, 0)
	if err != nil {
		if strings.Contains(err.Error(), "KDC_ERR_PREAUTH_FAILED") || strings.Contains(err.Error(), "password/keytab incorrect") {
			return nil, fmt.Errorf("%w: wrong password or old keytab: %w", ErrRefused, err)
		}
		return nil, err
	}
	return s.exchange(cl, reply.Ticket, reply.DecryptedEncPart.Key)
}

// fromCache uses a ticket granting ticket that somebody else keeps fresh.
func (s *tickets) fromCache(conf *config.Config, dial func(*client.Settings)) (*ticket, error) {
	cache, err := credentials.LoadCCache(s.CCache)
	if err != nil {
		return nil, fmt.Errorf("reading credential cache %q: %w", s.CCache, err)
	}
	owner := cache.GetClientPrincipalName().PrincipalNameString() + "@" + cache.GetClientRealm()
	if owner != s.Principal {
		return nil, fmt.Errorf("credential cache %q belongs to %s", s.CCache, owner)
	}
	granting := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", cache.GetClientRealm()}}
	entry, ok := cache.GetEntry(granting)
	if !ok || !s.now().Before(entry.EndTime) {
		return nil, fmt.Errorf("credential cache %q has no valid ticket granting ticket: run kinit, or whatever keeps it fresh", s.CCache)
	}
	var tgt messages.Ticket
	if err := tgt.Unmarshal(entry.Ticket); err != nil {
		return nil, fmt.Errorf("reading credential cache %q: %w", s.CCache, err)
	}
	cl, err := client.NewFromCCache(cache, conf, dial)
	if err != nil {
		return nil, err
	}
	return s.exchange(cl, tgt, entry.Key)
}

// exchange asks for the service ticket.
func (s *tickets) exchange(cl *client.Client, tgt messages.Ticket, key types.EncryptionKey) (*ticket, error) {
	realm := cl.Credentials.Domain()
	spn := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, s.spn)
	_, reply, err := cl.TGSREQGenerateAndExchange(spn, realm, tgt, key, false)
	if err != nil {
		return nil, err
	}
	return &ticket{
		ticket: reply.Ticket, key: reply.DecryptedEncPart.Key, realm: realm, client: cl.Credentials.CName(), ends: reply.DecryptedEncPart.EndTime,
	}, nil
}

// kdcDialer ends connections to a KDC with their context.
type kdcDialer struct{ ctx context.Context }

func (d kdcDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(d.ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return conn, nil
}

// header makes the value of an Authorization header: SPNEGO (RFC 4178) around
// an AP-REQ whose authenticator names the TLS channel (RFC 4121, section
// 4.1.1). Each request has its own, and a microsecond of its own: the server
// keeps a replay cache (RFC 4120, section 3.2.3).
func (t *ticket) header(binding [16]byte) (string, error) {
	authenticator, err := types.NewAuthenticator(t.realm, t.client)
	if err != nil {
		return "", err
	}
	at := t.moment()
	authenticator.CTime, authenticator.Cusec = at, at.Nanosecond()/1000
	sum := binary.LittleEndian.AppendUint32(nil, 16) // length of the binding
	sum = append(sum, binding[:]...)
	sum = binary.LittleEndian.AppendUint32(sum, uint32(gssapi.ContextFlagInteg|gssapi.ContextFlagConf))
	authenticator.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	request, err := messages.NewAPReq(t.ticket, t.key, authenticator)
	if err != nil {
		return "", err
	}
	b, err := request.Marshal()
	if err != nil {
		return "", err
	}
	return inNegotiate(frame(b))
}

// inNegotiate puts a token of Kerberos into SPNEGO and that into a header.
func inNegotiate(token []byte) (string, error) {
	init := spnego.NegTokenInit{MechTokenBytes: token}
	init.MechTypes = append(init.MechTypes, gssapi.OIDKRB5.OID())
	b, err := (&spnego.SPNEGOToken{Init: true, NegTokenInit: init}).Marshal()
	if err != nil {
		return "", err
	}
	return authorization("Negotiate", b), nil
}

// frame puts an AP-REQ into the frame of GSS-API (RFC 4121, section 4.1): the
// mechanism's OID, 1.2.840.113554.1.2.2, and token ID 01 00.
func frame(request []byte) []byte {
	b := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00}
	return asn1tools.AddASNAppTag(append(b, request...), 0)
}

// errNoSPN is a configuration without a name that Kerberos knows.
var errNoSPN = errors.New("kerberos needs the server's full host name, not an address")

// spnFor is the service principal name of a host's web server.
func spnFor(host string) (string, error) {
	if net.ParseIP(host) != nil || host == "" {
		return "", errNoSPN
	}
	return "HTTP/" + strings.ToLower(strings.TrimSuffix(host, ".")), nil
}
