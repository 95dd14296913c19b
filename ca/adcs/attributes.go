package adcs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/certconnector/certconnector/ca"
)

const (
	// tagName marks our requests in the CA's database. Every reader of the
	// database sees it, so it says nothing of tenant or device.
	tagName = "ConnectorTag"
	// maxAttributes is the range of the string in the interface, with its NUL.
	maxAttributes = 1536
)

// tag is derived from the request alone: it is a hint for a search after a
// restart, where nothing else is left.
func tag(csrDigest [32]byte) string {
	sum := sha256.Sum256(append([]byte("certconnector tag\x00"), csrDigest[:]...))
	return hex.EncodeToString(sum[:16])
}

// attributes are the request attributes ([MS-WCCE], section 3.1.1.2.3) of a
// submission. There is never one for names: the CA would believe it only with
// EDITF_ATTRIBUTESUBJECTALTNAME2, with which anyone may be anybody.
func attributes(req ca.Request, validity bool) (string, error) {
	var b strings.Builder
	add := func(name, value string) error {
		if strings.IndexFunc(value, unicode.IsControl) >= 0 {
			return fmt.Errorf("%s holds a line break or another control character", name)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, value)
		return nil
	}
	if req.Template != "" {
		if err := add("CertificateTemplate", req.Template); err != nil {
			return "", err
		}
	}
	if wish := wished(req); validity && wish > 0 {
		unit, count := units(wish)
		add("ValidityPeriod", unit)
		add("ValidityPeriodUnits", fmt.Sprint(count))
	}
	add(tagName, tag(req.CSR.Digest()))
	if b.Len() >= maxAttributes {
		return "", fmt.Errorf("request attributes of %d characters, the interface takes %d", b.Len(), maxAttributes-1)
	}
	return b.String(), nil
}

// wished is the shorter of wish and cap, 0 for neither.
func wished(req ca.Request) time.Duration {
	if req.Validity > 0 && req.MaxValidity > 0 {
		return min(req.Validity, req.MaxValidity)
	}
	return max(req.Validity, req.MaxValidity)
}

// units is a duration in the largest unit that keeps it within the wish.
// The CA knows Hours, Days, Weeks, Months and Years; the latter two are not
// always as long.
func units(d time.Duration) (string, int64) {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return "Days", int64(d / day)
	}
	return "Hours", max(int64(d/time.Hour), 1)
}
