package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"
)

// Floor says what the public- and private-key operations of PKCSReqs cost, and
// nothing else: no server can do without them.
type Floor struct {
	Rounds int     `json:"rounds"`
	CPU    float64 `json:"cpu_ms_per_req"` // user and system time of this process
}

// CA keys that a floor is measured for.
const (
	RSA2048 = "rsa2048"
	P256    = "p256"
)

// MeasureFloor does the operations of one PKCSReq over and over: verify the
// message, decrypt its key, verify the CSR, sign the certificate, encrypt to
// the device, sign the reply. All keys but a P-256 CA's are RSA-2048.
func MeasureFloor(caKey string, rounds int) (Floor, error) {
	if rounds < 1 {
		return Floor{}, errors.New("the floor needs at least one round")
	}
	ra, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Floor{}, err
	}
	device, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Floor{}, err
	}
	sign, err := caSigner(caKey)
	if err != nil {
		return Floor{}, err
	}
	digest := make([]byte, 32)
	signature, err := rsa.SignPKCS1v15(nil, device, crypto.SHA256, digest)
	if err != nil {
		return Floor{}, err
	}
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &ra.PublicKey, digest) //lint:ignore SA1019 what SCEP prescribes is what must be measured
	if err != nil {
		return Floor{}, err
	}
	round := func() error {
		key := make([]byte, 32)
		_, encryptErr := rsa.EncryptPKCS1v15(rand.Reader, &device.PublicKey, digest) //lint:ignore SA1019 what SCEP prescribes is what must be measured
		_, replyErr := rsa.SignPKCS1v15(nil, ra, crypto.SHA256, digest)
		return errors.Join(
			rsa.VerifyPKCS1v15(&device.PublicKey, crypto.SHA256, digest, signature),
			rsa.DecryptPKCS1v15SessionKey(nil, ra, sealed, key), //lint:ignore SA1019 what SCEP prescribes is what must be measured
			rsa.VerifyPKCS1v15(&device.PublicKey, crypto.SHA256, digest, signature),
			sign(digest), encryptErr, replyErr,
		)
	}
	for range max(1, rounds/10) { // warm up
		if err := round(); err != nil {
			return Floor{}, err
		}
	}
	before, err := cpuTime()
	if err != nil {
		return Floor{}, err
	}
	for range rounds {
		if err := round(); err != nil {
			return Floor{}, err
		}
	}
	after, err := cpuTime()
	if err != nil {
		return Floor{}, err
	}
	return Floor{Rounds: rounds, CPU: float64(after-before) / float64(time.Millisecond) / float64(rounds)}, nil
}

func caSigner(kind string) (func(digest []byte) error, error) {
	switch kind {
	case RSA2048:
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		return func(d []byte) error { _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, d); return err }, err
	case P256:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return func(d []byte) error { _, err := ecdsa.SignASN1(rand.Reader, key, d); return err }, err
	}
	return nil, fmt.Errorf("no floor for a CA key of kind %q, only %s and %s", kind, RSA2048, P256)
}
