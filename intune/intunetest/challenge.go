package intunetest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/certconnector/certconnector/intune"
)

// magic opens every challenge of the simulator, so that none is ever taken for
// one of Intune's, whose format is not public.
const magic = "CERTLAB-CHALLENGE\x00\x01"

// challengeSize is how many bytes a challenge is padded to before base64:
// real ones are long, which is what GET requests with one suffer from.
const challengeSize = 2048

// challengeKeys seal and sign challenges.
type challengeKeys struct {
	sealer cipher.AEAD
	signer *ecdsa.PrivateKey
}

func newChallengeKeys() (challengeKeys, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return challengeKeys{}, err
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return challengeKeys{}, err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return challengeKeys{sealer, signer}, err
}

// claims are what a challenge says about the request it may come in.
type claims struct {
	Tenant        string      `json:"tenant"`
	RequestID     string      `json:"request_id"`
	DeviceID      string      `json:"device_id"`
	UserID        string      `json:"user_id"`
	Profile       string      `json:"profile"`
	Created       int64       `json:"created"`
	Expires       int64       `json:"expires"`
	Subject       []attribute `json:"subject"`
	SAN           Names       `json:"san"`
	KeyUsage      int         `json:"key_usage"`
	KeySize       int         `json:"key_size"`
	EKU           []string    `json:"eku"`
	RegisteredKey bool        `json:"registered_key"`
	Padding       string      `json:"padding"`
}

// Flaw is something wrong with a challenge, each for one code of the service.
type Flaw string

// The flaws that a challenge can be made with.
const (
	Garbled     Flaw = "garbled"      // ChallengeDecodingError
	OtherSigner Flaw = "other-signer" // SigningCertThumbprintMismatch
	Forged      Flaw = "forged"       // SignatureValidationFailed
	OtherKey    Flaw = "other-key"    // ChallengeDecryptionError
	NotJSON     Flaw = "not-json"     // ChallengeDeserializationError
	Backwards   Flaw = "backwards"    // ChallengeInvalidTimestamp
	NoRequestID Flaw = "no-request"   // BadCertificateRequestIdInChallenge
	NoDevice    Flaw = "no-device"    // BadDeviceIdInChallenge
	NoUser      Flaw = "no-user"      // BadUserIdInChallenge
)

// Ask says which challenge to make. What is empty is chosen: the first tenant,
// the platform's first device, and its first profile.
type Ask struct {
	Tenant   string `json:"tenant"`
	Platform string `json:"platform"`
	Profile  string `json:"profile"`
	Device   string `json:"device"`
	Flaw     Flaw   `json:"flaw"`
}

// Challenge is what a device gets with its profile: the challenge itself, and
// what to put into the request beside it.
type Challenge struct {
	Challenge    string   `json:"challenge"`
	Profile      string   `json:"profile"`
	Device       string   `json:"device"`
	Subject      string   `json:"subject"`
	SAN          Names    `json:"san"`
	KeyUsage     int      `json:"key_usage"`
	EKU          []string `json:"eku"`
	KeySize      int      `json:"key_size"`
	Hash         string   `json:"hash"`
	Validity     int      `json:"validity"`
	ValidityUnit string   `json:"validity_unit"`
}

// Challenge makes a challenge for a device.
func (c *Cloud) Challenge(ask Ask) (Challenge, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tenants[0]
	if ask.Tenant != "" {
		if t = c.find(ask.Tenant); t == nil {
			return Challenge{}, fmt.Errorf("there is no tenant %q", ask.Tenant)
		}
	}
	d, p, err := t.pick(ask)
	if err != nil {
		return Challenge{}, err
	}
	out := Challenge{
		Profile: p.Name, Device: d.ID, Subject: d.expand(p.Subject),
		SAN: Names{
			DNS: d.expandAll(p.SAN.DNS), Email: d.expandAll(p.SAN.Email),
			URI: d.expandAll(p.SAN.URI), UPN: d.expandAll(p.SAN.UPN),
		},
		KeyUsage: p.KeyUsage, EKU: p.EKU, KeySize: p.KeySize, Hash: p.Hash,
		Validity: p.Validity, ValidityUnit: p.ValidityUnit,
	}
	subject, err := parseSubject(out.Subject)
	if err != nil {
		return Challenge{}, err
	}
	now := c.clock()
	out.Challenge, err = c.makers.seal(claims{
		Tenant: t.ID, RequestID: guid(), DeviceID: d.ID, UserID: d.UserID, Profile: p.Name,
		Created: now.Unix(), Expires: now.Add(c.options.ChallengeLife).Unix(),
		Subject: subject, SAN: out.SAN, KeyUsage: p.KeyUsage, KeySize: p.KeySize, EKU: p.EKU,
		RegisteredKey: p.RegisteredKey,
	}, ask.Flaw)
	return out, err
}

// pick chooses device and profile of an Ask.
func (t *tenant) pick(ask Ask) (Device, Profile, error) {
	for _, p := range t.Profiles {
		if ask.Profile != "" && p.Name != ask.Profile || ask.Platform != "" && p.Platform != "" && p.Platform != ask.Platform {
			continue
		}
		for _, d := range t.Devices {
			fits := ask.Device != "" && d.ID == ask.Device ||
				ask.Device == "" && (p.Platform == "" || d.Platform == p.Platform) && (ask.Platform == "" || d.Platform == ask.Platform)
			if fits {
				return d, p, nil
			}
		}
	}
	return Device{}, Profile{}, fmt.Errorf("no device and profile fit profile %q, platform %q and device %q", ask.Profile, ask.Platform, ask.Device)
}

// seal makes the text of a challenge: encrypted, then signed, as Intune's are
// said to be.
func (k challengeKeys) seal(cl claims, flaw Flaw) (string, error) {
	switch flaw {
	case Backwards:
		cl.Created, cl.Expires = cl.Expires, cl.Created
	case NoRequestID:
		cl.RequestID = "none"
	case NoDevice:
		cl.DeviceID = guid()
	case NoUser:
		cl.UserID = guid()
	}
	plain, err := json.Marshal(cl)
	if err != nil {
		return "", err
	}
	if missing := challengeSize - len(plain); missing > 0 {
		cl.Padding = strings.Repeat("-", missing)
		if plain, err = json.Marshal(cl); err != nil {
			return "", err
		}
	}
	other, err := newChallengeKeys()
	if err != nil {
		return "", err
	}
	if flaw == NotJSON {
		plain = bytes.Repeat([]byte("not JSON "), challengeSize/9)
	}
	sealer, signer := k.sealer, k.signer
	if flaw == OtherKey {
		sealer = other.sealer
	}
	if flaw == OtherSigner {
		signer = other.signer
	}
	sealed := sealer.Seal(nil, nil, plain, nil)
	thumbprint, err := thumbprintOf(&signer.PublicKey)
	if err != nil {
		return "", err
	}
	if flaw == Forged {
		signer = other.signer
	}
	sum := sha256.Sum256(sealed)
	signature, err := ecdsa.SignASN1(rand.Reader, signer, sum[:])
	if err != nil {
		return "", err
	}
	blob := append([]byte(magic), thumbprint[:]...)
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(sealed)))
	blob = append(append(blob, sealed...), signature...)
	if flaw == Garbled {
		blob = blob[1:]
	}
	return base64.StdEncoding.EncodeToString(blob), nil
}

func thumbprintOf(pub *ecdsa.PublicKey) ([32]byte, error) {
	b, err := pub.Bytes()
	return sha256.Sum256(b), err
}

// open reads a challenge, or says with a code of the service what is wrong.
func (k challengeKeys) open(text string, now time.Time) (claims, intune.Code) {
	var cl claims
	blob, err := base64.StdEncoding.DecodeString(text)
	rest, ok := bytes.CutPrefix(blob, []byte(magic))
	if err != nil || !ok || len(rest) < 36 {
		return cl, intune.ChallengeDecodingError
	}
	thumbprint, n, rest := rest[:32], binary.BigEndian.Uint32(rest[32:36]), rest[36:]
	if uint64(n) > uint64(len(rest)) {
		return cl, intune.ChallengeDecodingError
	}
	sealed, signature := rest[:n], rest[n:]
	if own, err := thumbprintOf(&k.signer.PublicKey); err != nil || !bytes.Equal(own[:], thumbprint) {
		return cl, intune.SigningCertThumbprintMismatch
	}
	if sum := sha256.Sum256(sealed); !ecdsa.VerifyASN1(&k.signer.PublicKey, sum[:], signature) {
		return cl, intune.SignatureValidationFailed
	}
	plain, err := k.sealer.Open(nil, nil, sealed, nil)
	if err != nil {
		return cl, intune.ChallengeDecryptionError
	}
	if json.Unmarshal(plain, &cl) != nil {
		return cl, intune.ChallengeDeserializationError
	}
	if cl.Created > cl.Expires || cl.Created > now.Add(5*time.Minute).Unix() {
		return cl, intune.ChallengeInvalidTimestamp
	}
	if now.Unix() >= cl.Expires {
		return cl, intune.ChallengeExpired
	}
	return cl, intune.Success
}
