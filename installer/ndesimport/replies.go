package ndesimport

import (
	"fmt"
	"strings"
	"time"
)

// algorithm is what a name or object identifier of an algorithm stands for.
type algorithm struct {
	name  string
	kind  Kind
	key   string // in algorithms, "" for none
	about string
}

// The algorithms that NDES is known to have answered with. Microsoft does not
// document the spelling of these two values, so names and identifiers are read.
var hashes = map[string]algorithm{
	"md5":    {"MD5", Manual, "", "MD5 is always refused; devices that know nothing else cannot enrol"},
	"sha1":   {"SHA-1", Manual, "algorithms.legacy_sha1: false", "SHA-1 is off: it is unsafe. Turn on legacy_sha1 only if a device fails with badAlg and cannot be updated"},
	"sha256": {"SHA-256", Kept, "", followsRequest},
	"sha384": {"SHA-384", Kept, "", followsRequest},
	"sha512": {"SHA-512", Kept, "", followsRequest},
}

var ciphers = map[string]algorithm{
	"des":    {"DES", Manual, "", "single DES is always refused; devices that know nothing else cannot enrol"},
	"3des":   {"triple DES", Kept, "algorithms.legacy_3des: true", "for devices that know nothing better; replies follow the request"},
	"aes128": {"AES-128", Kept, "", followsRequest},
	"aes192": {"AES-192", Kept, "", followsRequest},
	"aes256": {"AES-256", Kept, "", followsRequest},
}

const followsRequest = "nothing to set: a reply uses what the request used"

// aliases are other spellings, object identifiers among them.
var aliases = map[string]string{
	"1.2.840.113549.2.5": "md5", "1.3.14.3.2.26": "sha1", "sha": "sha1",
	"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512",
	"1.3.14.3.2.7": "des", "1.2.840.113549.3.7": "3des", "des3": "3des", "tripledes": "3des", "desede": "3des",
	"2.16.840.1.101.3.4.1.2": "aes128", "2.16.840.1.101.3.4.1.22": "aes192", "2.16.840.1.101.3.4.1.42": "aes256", "aes": "aes128",
}

func (im *importer) replies() {
	im.algorithm(`HashAlgorithm\HashAlgorithm`, hashes)
	im.algorithm(`EncryptionAlgorithm\EncryptionAlgorithm`, ciphers)
	s, n, ok := im.number(`CacheRequest\CacheRequest`)
	switch {
	case !ok:
	case n == 0 || n > maxReplay:
		im.say(Changed, s, "replay_window: 24h", fmt.Sprintf("%d minutes make no sense; a device whose reply was lost gets the same certificate for a day", n))
	default:
		im.e.replay = time.Duration(n) * time.Minute
		im.say(Kept, s, "replay_window: "+minutes(im.e.replay), "how long a repeated request gets the same certificate; the default, 24h, is kinder to devices whose reply was lost")
	}
}

func (im *importer) algorithm(path string, known map[string]algorithm) {
	s, text, ok := im.text(path)
	if !ok {
		return
	}
	name := strings.ToLower(strings.TrimSpace(text))
	if alias, found := aliases[name]; found {
		name = alias
	}
	if alias, found := aliases[strings.NewReplacer("-", "", "_", "", " ", "").Replace(name)]; found {
		name = alias
	}
	a, found := known[strings.NewReplacer("-", "", "_", "", " ", "").Replace(name)]
	switch {
	case text == "":
		im.say(Dropped, s, "", "empty: NDES' default; "+followsRequest)
	case found:
		im.say(a.kind, s, a.key, a.name+": "+a.about)
	default:
		im.say(Manual, s, "", "unknown: no algorithm of this name; see what devices use. "+followsRequest)
	}
}

func (im *importer) store() {
	if s := im.get(`CertsInMYStore\CertsInMYStore`); s != nil {
		im.say(Dropped, s, "", `where NDES keeps its RA certificates; they stay there. The RA here has new keys in files, which "certconnector init" makes`)
	}
}

// minutes writes a duration as the configuration does.
func minutes(d time.Duration) string {
	if d%time.Hour == 0 && d > time.Hour {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
