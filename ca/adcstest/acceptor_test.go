package adcstest

import (
	"bytes"
	"context"
	"encoding/asn1"
	"testing"
	"time"

	krb5cipher "github.com/oiweiwei/go-msrpc/ssp/krb5/crypto"
	krb5crypto "github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/etypeID"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/nametype"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// initiator is a client with a ticket that the test made itself, from the keys
// of the service.
type initiator struct {
	t       *testing.T
	session types.EncryptionKey
	request []byte // AP-REQ
	sent    types.Authenticator
}

func newInitiator(t *testing.T, keys *keytab.Keytab) *initiator {
	t.Helper()
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "svc")
	service := types.NewPrincipalName(nametype.KRB_NT_SRV_HST, "host/ca01.corp.test")
	now := time.Now().UTC()
	ticket, session, err := messages.NewTicket(name, "CORP.TEST", service, "CORP.TEST", types.NewKrbFlags(), keys,
		etypeID.AES256_CTS_HMAC_SHA1_96, 1, now, now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatalf("making a ticket: %v", err)
	}
	sent, err := types.NewAuthenticator("CORP.TEST", name)
	if err != nil {
		t.Fatalf("making an authenticator: %v", err)
	}
	request, err := messages.NewAPReq(ticket, session, sent)
	if err != nil {
		t.Fatalf("making an AP-REQ: %v", err)
	}
	der, err := request.Marshal()
	if err != nil {
		t.Fatalf("encoding an AP-REQ: %v", err)
	}
	return &initiator{t, session, der, sent}
}

// finish reads the AP-REP and makes the third leg.
func (i *initiator) finish(reply []byte) (sub types.EncryptionKey, seq uint64, proof []byte) {
	i.t.Helper()
	var got messages.APRep
	if err := got.Unmarshal(reply); err != nil {
		i.t.Fatalf("reading the AP-REP: %v", err)
	}
	if err := got.DecryptEncPart(i.session); err != nil {
		i.t.Fatalf("opening the AP-REP: %v", err)
	}
	part := got.DecryptedEncPart
	if part.SequenceNumber == 0 || len(part.Subkey.KeyValue) == 0 || part.CTime.Unix() != i.sent.CTime.Unix() || part.Cusec != i.sent.Cusec {
		i.t.Errorf("the AP-REP lacks sequence number, sub-key or the echo of the client's time: %+v", part)
	}
	rep, err := messages.NewAPRep(i.session, messages.NewEncAPRepPart(part.SequenceNumber))
	if err != nil {
		i.t.Fatalf("making the third leg: %v", err)
	}
	if proof, err = rep.Marshal(); err != nil {
		i.t.Fatalf("encoding the third leg: %v", err)
	}
	return part.Subkey, uint64(part.SequenceNumber), proof
}

func serviceKeys(t *testing.T) *keytab.Keytab {
	t.Helper()
	keys := keytab.New()
	if err := keys.AddEntry("host/ca01.corp.test", "CORP.TEST", "the CA's own", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatalf("making a keytab: %v", err)
	}
	return keys
}

// gssToken frames an AP-REQ as RFC 4121, section 4.1 has it.
func gssToken(t *testing.T, request []byte) []byte {
	t.Helper()
	oid, err := asn1.Marshal(oidKerberos)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(asn1.RawValue{
		Class: asn1.ClassApplication, Tag: 0, IsCompound: true, Bytes: append(append(oid, 1, 0), request...),
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKerberosAcceptor(t *testing.T) {
	keys := serviceKeys(t)
	for _, framed := range []bool{false, true} {
		i := newInitiator(t, keys)
		k := &kerberosAcceptor{keys: keys}
		token := i.request
		if framed {
			token = gssToken(t, token)
		}
		reply, done, err := k.accept(token)
		if err != nil || done {
			t.Fatalf("framed %t, first leg: done %t, %v", framed, done, err)
		}
		sub, seq, proof := i.finish(reply)
		if _, done, err = k.accept(proof); err != nil || !done || k.account() != "svc@CORP.TEST" {
			t.Fatalf("framed %t, third leg: done %t, account %q, %v", framed, done, k.account(), err)
		}
		kind, err := krb5crypto.GetEtype(sub.KeyType)
		if err != nil {
			t.Fatal(err)
		}
		cipher, err := krb5cipher.NewCipher(context.Background(), krb5cipher.CipherSetting{Type: kind, Key: sub, IsSubKey: true, DCEStyle: true})
		if err != nil {
			t.Fatal(err)
		}
		plain := []byte("sixteen octets..")
		stub := bytes.Clone(plain)
		signature, err := k.seal(rpcMessage{stub: stub})
		if err != nil || bytes.Equal(stub, plain) || len(signature) != k.signatureSize(true) {
			t.Fatalf("sealing: %d octets of signature, %v", len(signature), err)
		}
		ok, err := cipher.Unwrap(context.Background(), seq, [][]byte{stub}, [][]byte{stub}, signature)
		if err != nil || !ok || !bytes.Equal(stub, plain) {
			t.Errorf("the client reads %q: %t, %v", stub, ok, err)
		}
	}
}

func TestKerberosAcceptorRefuses(t *testing.T) {
	keys := serviceKeys(t)
	other := keytab.New()
	if err := other.AddEntry("host/ca01.corp.test", "CORP.TEST", "of another machine", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	i := newInitiator(t, other)
	if _, _, err := (&kerberosAcceptor{keys: keys}).accept(i.request); err == nil {
		t.Error("a ticket for another key was taken")
	}
	i = newInitiator(t, keys)
	k := &kerberosAcceptor{keys: keys}
	reply, _, err := k.accept(i.request)
	if err != nil {
		t.Fatalf("first leg: %v", err)
	}
	if _, done, err := k.accept(reply); err == nil && done {
		t.Error("our own AP-REP was taken as the client's")
	}
	for name, damage := range map[string]func([]byte) []byte{
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"damaged":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		fresh := newInitiator(t, keys)
		k := &kerberosAcceptor{keys: keys}
		reply, _, err := k.accept(fresh.request)
		if err != nil {
			t.Fatalf("first leg: %v", err)
		}
		_, _, proof := fresh.finish(reply)
		if _, done, err := k.accept(damage(proof)); err == nil && done {
			t.Errorf("a third leg that was %s was taken", name)
		}
	}
	if _, _, err := (&kerberosAcceptor{keys: keys}).accept(i.request); err == nil {
		t.Error("an AP-REQ was taken twice")
	}
}
