package scep

import (
	"crypto"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// maxDecryptions bounds the private-key operations that one message can cost.
const maxDecryptions = 10

// Open decrypts the envelope with the RA's key and reads what is inside; of a
// certification request the signature is verified too. Whether the request's
// key is the signer's, and whether its size will do, is for the caller.
//
// Every failure is the same *Refusal, told apart by its Detail only, and costs
// the same: always a decryption, a look at the content as if it were whole,
// and one public-key operation.
func (m *Message) Open(ra *RA) (*Request, error) {
	if m.envelope == nil {
		return nil, unopened("no envelope was read")
	}
	var failure *Refusal
	for _, try := range ra.candidates(m.envelope.recipients) {
		req, err := m.openWith(try)
		if err == nil || try.named {
			m.replyBy = try.key.signer
		}
		if err == nil {
			return req, nil
		}
		failure = unopened(err.Error())
	}
	if failure == nil {
		failure = unopened("no recipient fits a key of ours")
	}
	return nil, failure
}

// candidate is a recipient and the key to try on it.
type candidate struct {
	recipient recipient
	key       *decryptionKey
	named     bool // by the message, and not a guess of ours
}

// candidates chooses what to decrypt: the recipient that names one of our
// certificates, current before previous. When none does (a device that
// re-encoded a name beyond recognition or holds an old certificate of the same
// key), every recipient of the right size with every key. A message encrypted
// to the CA's certificate lands there too, and fails. The choice hangs on
// public bytes only.
func (ra *RA) candidates(recipients []recipient) []candidate {
	for i := range ra.decryption {
		k := &ra.decryption[i]
		for _, r := range recipients {
			if r.id.names(k.issuer, k.serial, func() []byte { return k.keyID }) {
				return []candidate{{r, k, true}}
			}
		}
	}
	var list []candidate
	for i := range ra.decryption {
		k := &ra.decryption[i]
		for _, r := range recipients {
			if len(r.encrypted) == k.size && len(list) < maxDecryptions {
				list = append(list, candidate{r, k, false})
			}
		}
	}
	return list
}

// openWith tries one candidate. Its errors are for the log.
func (m *Message) openWith(try candidate) (*Request, error) {
	c := ciphers[m.envelope.cipher]
	key := decryptKey(try.key.decrypter, try.recipient, c.keyLen)
	defer clear(key)
	block, err := c.open(key)
	if err != nil {
		return nil, err // cannot happen: the key has the cipher's length
	}
	plain := make([]byte, len(m.envelope.content))
	cipher.NewCBCDecrypter(block, m.envelope.iv).CryptBlocks(plain, m.envelope.content)
	length, padded := unpad(plain, c.block)

	// Go on whatever the padding was: its failure must not be seen.
	req := &Request{MessageType: m.MessageType, TransactionID: m.TransactionID, Signer: m.Signer}
	err = req.readContent(plain[:length])
	if err != nil {
		m.pretendToVerify(plain)
	} else if req.CSR != nil {
		err = req.checkCSR(m.accept)
	}
	switch {
	case padded == 0:
		clear(plain)
		return nil, errors.New("the decrypted content has no valid padding: encrypted to another key, or damaged")
	case err != nil:
		clear(plain)
		return nil, err
	}
	return req, nil
}

// unpad returns the length without the padding (RFC 5652, section 6.3) and 1,
// or the whole length and 0 when the padding is wrong, in constant time.
func unpad(plain []byte, block int) (length, ok int) {
	n := int(plain[len(plain)-1])
	ok = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, block)
	for i := range block {
		inside := subtle.ConstantTimeLessOrEq(i+1, n)
		same := subtle.ConstantTimeByteEq(plain[len(plain)-1-i], byte(n))
		ok &= same | (1 - inside)
	}
	return len(plain) - subtle.ConstantTimeSelect(ok, n, 0), ok
}

// checkCSR verifies the proof of possession. SHA-1 will do where a message may
// be signed with it.
func (r *Request) checkCSR(accept Algorithms) error {
	err := r.CSR.CheckSignature()
	if accept.LegacySHA1 && errors.Is(err, pkcs10.ErrWeakDigest) {
		return nil
	}
	return err
}

// pretendToVerify spends what verifying a request's signature would have cost:
// the request's key is almost always the signer's.
func (m *Message) pretendToVerify(plain []byte) {
	if key, ok := m.Signer.PublicKey.(*rsa.PublicKey); ok {
		digest := sha256.Sum256(plain)
		_ = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], make([]byte, key.Size()))
	}
}
