package pkcs10

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	pairValidityUnit  = "ValidityPeriod"      // the unit: Hours … Years
	pairValidityCount = "ValidityPeriodUnits" // how many of them
	maxPairs          = 64
	maxPairText       = 256 // characters of a name we are willing to log
	maxValidity       = 100 * 365 * 24 * time.Hour
)

// Validity units of a Microsoft CA; months and years have the length that
// Windows' arithmetic on average gives, the CA's own cap decides in the end.
var validityUnits = map[string]time.Duration{
	"seconds": time.Second,
	"minutes": time.Minute,
	"hours":   time.Hour,
	"days":    24 * time.Hour,
	"weeks":   7 * 24 * time.Hour,
	"months":  30 * 24 * time.Hour,
	"years":   365 * 24 * time.Hour,
}

// pairs collects enrolment name/value pairs ([MS-WCCE] 2.2.2.7.10).
type pairs struct {
	unit, count string
	ignored     []string
	n           int
}

// read reads the values of one attribute, each a pair.
func (p *pairs) read(values cryptobyte.String) error {
	for !values.Empty() {
		var pair cryptobyte.String
		if !values.ReadASN1(&pair, cbasn1.SEQUENCE) {
			return errors.New("malformed name/value pair")
		}
		name, ok := readString(&pair)
		if !ok {
			return errors.New("malformed name/value pair")
		}
		value, ok := readString(&pair)
		if !ok || !pair.Empty() {
			return errors.New("malformed name/value pair")
		}
		if p.n++; p.n > maxPairs {
			return fmt.Errorf("more than %d name/value pairs", maxPairs)
		}
		if err := p.take(name, value); err != nil {
			return err
		}
	}
	return nil
}

// take keeps the two pairs that are acted on and the names of the others.
func (p *pairs) take(name, value string) error {
	field := &p.unit
	switch {
	case strings.EqualFold(name, pairValidityUnit):
	case strings.EqualFold(name, pairValidityCount):
		field = &p.count
	default:
		if r := []rune(name); len(r) > maxPairText {
			name = string(r[:maxPairText])
		}
		p.ignored = append(p.ignored, name)
		return nil
	}
	if *field != "" && *field != value {
		return fmt.Errorf("name/value pair %s comes twice and differs", name)
	}
	*field = value
	return nil
}

// result returns the asked-for validity, 0 when none can be understood, and
// the names of ignored pairs. Microsoft's Android agent puts the number under
// ValidityPeriod and the unit under ValidityPeriodUnits; which is which shows.
func (p *pairs) result() (time.Duration, []string) {
	unit, count := strings.TrimSpace(p.unit), strings.TrimSpace(p.count)
	if _, err := strconv.Atoi(unit); err == nil {
		unit, count = count, unit
	}
	n, err := strconv.ParseInt(count, 10, 32)
	length, known := validityUnits[strings.ToLower(unit)]
	if !known { // the singular is seen too
		length, known = validityUnits[strings.ToLower(unit)+"s"]
	}
	if err != nil || !known || n <= 0 {
		return 0, p.ignored
	}
	if n > int64(maxValidity/length) {
		return maxValidity, p.ignored
	}
	return time.Duration(n) * length, p.ignored
}
