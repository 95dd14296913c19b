package adcstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"

	krb5cipher "github.com/oiweiwei/go-msrpc/ssp/krb5/crypto"
	krb5crypto "github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/service"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// kerberosAcceptor lets clients in with a ticket, in the three legs of DCE
// style ([MS-KILE], section 3.4.5.1): AP-REQ, AP-REP, AP-REP.
type kerberosAcceptor struct {
	keys *keytab.Keytab

	user              string
	leg               int
	session           types.EncryptionKey
	reply             []byte // our AP-REP
	in, out           krb5cipher.Cipher
	clientSeq, ourSeq uint64
}

func (k *kerberosAcceptor) account() string   { return k.user }
func (k *kerberosAcceptor) mechanism() string { return "Kerberos" }

func (k *kerberosAcceptor) accept(token []byte) ([]byte, bool, error) {
	k.leg++
	switch k.leg {
	case 1:
		reply, err := k.acceptRequest(apRequest(token))
		return reply, false, err
	case 2:
		return nil, true, k.acceptProof(token)
	}
	return nil, false, errors.New("a Kerberos token too many")
}

// apRequest finds the AP-REQ. Some peers send it bare, others as a GSS token
// (RFC 4121, section 4.1).
func apRequest(token []byte) []byte {
	var frame asn1.RawValue
	if _, err := asn1.Unmarshal(token, &frame); err != nil || frame.Class != asn1.ClassApplication || frame.Tag != 0 {
		return token
	}
	var mech asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(frame.Bytes, &mech)
	if err != nil || len(rest) < 2 {
		return token
	}
	return rest[2:] // after the token's ID
}

func (k *kerberosAcceptor) acceptRequest(token []byte) ([]byte, error) {
	var request messages.APReq
	if err := request.Unmarshal(token); err != nil {
		return nil, fmt.Errorf("reading an AP-REQ: %v", err)
	}
	ok, who, err := service.VerifyAPREQ(&request, service.NewSettings(k.keys, service.DecodePAC(false)))
	if err != nil || !ok {
		return nil, fmt.Errorf("refusing an AP-REQ: %v", err)
	}
	k.user = who.UserName() + "@" + who.Domain()
	k.session = request.Ticket.DecryptedEncPart.Key
	kind, err := krb5crypto.GetEtype(k.session.KeyType)
	if err != nil {
		return nil, err
	}
	sub := types.EncryptionKey{KeyType: k.session.KeyType, KeyValue: make([]byte, kind.GetKeyByteSize())}
	rand.Read(sub.KeyValue)
	var seed [4]byte
	rand.Read(seed[:])
	// Never zero: the encoder would leave it out, and some clients insist.
	k.clientSeq, k.ourSeq = uint64(request.Authenticator.SeqNumber), uint64(le.Uint32(seed[:])&0x3fffffff)|1
	part := messages.NewEncAPRepPart(int64(k.ourSeq))
	part.CTime, part.Cusec, part.Subkey = request.Authenticator.CTime, request.Authenticator.Cusec, sub
	reply, err := messages.NewAPRep(k.session, part)
	if err != nil {
		return nil, err
	}
	newCipher := func(initiator bool) (krb5cipher.Cipher, error) {
		return krb5cipher.NewCipher(context.Background(), krb5cipher.CipherSetting{
			Type: kind, Key: sub, IsSubKey: true, IsLocal: initiator, DCEStyle: true,
		})
	}
	if k.in, err = newCipher(true); err != nil {
		return nil, err
	}
	if k.out, err = newCipher(false); err != nil {
		return nil, err
	}
	k.reply, err = reply.Marshal()
	return k.reply, err
}

// acceptProof takes the client's AP-REP, which proves that it has the key; our
// own, sent back, proves nothing.
func (k *kerberosAcceptor) acceptProof(token []byte) error {
	if bytes.Equal(token, k.reply) {
		return errors.New("the client sent our own AP-REP back")
	}
	var proof messages.APRep
	if err := proof.Unmarshal(token); err != nil {
		return fmt.Errorf("reading the client's AP-REP: %v", err)
	}
	if err := proof.DecryptEncPart(k.session); err != nil {
		return fmt.Errorf("refusing the client's AP-REP: %v", err)
	}
	return nil
}

func (m rpcMessage) parts() [][]byte {
	if m.headerSign {
		return [][]byte{m.header, m.stub, m.trailer}
	}
	return [][]byte{m.stub}
}

func (k *kerberosAcceptor) signatureSize(private bool) int {
	return k.out.Size(context.Background(), private)
}

func (k *kerberosAcceptor) seal(m rpcMessage) ([]byte, error) {
	signature, err := k.out.Wrap(context.Background(), k.ourSeq, m.parts(), [][]byte{m.stub})
	k.ourSeq++
	return signature, err
}

func (k *kerberosAcceptor) unseal(m rpcMessage, signature []byte) error {
	ok, err := k.in.Unwrap(context.Background(), k.clientSeq, m.parts(), [][]byte{m.stub}, signature)
	k.clientSeq++
	if err == nil && !ok {
		err = errors.New("wrong Kerberos checksum")
	}
	return err
}

func (k *kerberosAcceptor) sign(m rpcMessage) ([]byte, error) {
	signature, err := k.out.MakeSignature(context.Background(), k.ourSeq, m.parts())
	k.ourSeq++
	return signature, err
}

func (k *kerberosAcceptor) verify(m rpcMessage, signature []byte) error {
	want, err := k.in.MakeSignature(context.Background(), k.clientSeq, m.parts())
	k.clientSeq++
	if err == nil && !bytes.Equal(want, signature) {
		err = errors.New("wrong Kerberos signature")
	}
	return err
}
