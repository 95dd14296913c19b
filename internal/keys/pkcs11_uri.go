package keys

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// pkcs11URI names a key pair of a token (RFC 7512). Exactly one of token,
// serial and slot is set, and at least one of object and id.
type pkcs11URI struct {
	token, serial string
	slot          *int
	object        string // CKA_LABEL
	id            string // CKA_ID
	module        string // module-path; "": the configured one
	pinFile       string // pin-source; "": the configured PIN
}

// attributes are those that set knows.
var attributes = []string{"token", "serial", "slot-id", "object", "id", "type", "module-path", "pin-source"}

// parsePKCS11 reads a reference. Attributes that would narrow the search in a
// way we do not follow are refused: the wrong key is worse than none.
func parsePKCS11(ref string) (pkcs11URI, error) {
	var u pkcs11URI
	path, query, _ := strings.Cut(ref[len("pkcs11:"):], "?")
	seen := map[string]bool{}
	set := func(name, raw string) error {
		value, err := url.PathUnescape(raw)
		if err != nil {
			return fmt.Errorf("attribute %s has a percent sign that introduces nothing", name)
		}
		if seen[name] {
			return fmt.Errorf("attribute %s appears twice", name)
		}
		seen[name] = true
		return u.set(name, value)
	}
	for _, part := range slices.Concat(split(path, ";"), split(query, "&")) {
		name, value, found := strings.Cut(part, "=")
		if !found {
			return u, fmt.Errorf("an attribute without a value in a pkcs11 URI; want pkcs11:token=…;object=…")
		}
		if err := set(name, value); err != nil {
			return u, err
		}
	}
	if n := len(slices.DeleteFunc([]string{u.token, u.serial, slotText(u.slot)}, func(s string) bool { return s == "" })); n != 1 {
		return u, fmt.Errorf("a pkcs11 URI names its token by one of token, serial and slot-id; this one has %d of them", n)
	}
	if u.object == "" && u.id == "" {
		return u, errors.New("a pkcs11 URI names its key by object (label), id or both")
	}
	return u, nil
}

func (u *pkcs11URI) set(name, value string) error {
	switch name {
	case "token":
		u.token = value
	case "serial":
		u.serial = value
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return errors.New("slot-id is no number")
		}
		slot := int(n)
		u.slot = &slot
	case "object":
		u.object = value
	case "id":
		u.id = value
	case "type":
		if value != "private" {
			return fmt.Errorf("type=%s is no private key", value)
		}
	case "module-path":
		u.module = value
	case "pin-source":
		u.pinFile = strings.TrimPrefix(strings.TrimPrefix(value, "file://"), "file:")
		if u.pinFile == "" || strings.HasPrefix(u.pinFile, "|") {
			return errors.New("pin-source is the path of a file")
		}
	case "pin-value":
		return errors.New("pin-value puts the PIN into the configuration; use pin-source or keys.pkcs11.pin, and replace the PIN if the file was seen")
	default:
		return fmt.Errorf("attribute %q of pkcs11 URIs is not supported (known: %s)", name, strings.Join(attributes, ", "))
	}
	return nil
}

func split(s, by string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, by)
}

func slotText(slot *int) string {
	if slot == nil {
		return ""
	}
	return strconv.Itoa(*slot)
}
