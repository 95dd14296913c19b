package certsrv

import (
	"regexp"
	"strconv"
	"strings"
)

// outcome is what a page means.
type outcome int

const (
	unclear outcome = iota // no page that we know
	issued
	parked
	refused
)

// verdict is what was read from a page.
type verdict struct {
	outcome   outcome
	requestID uint32
	code      int32 // of refused
	certain   bool  // false: a pending request's ID is a guess to be confirmed
}

var (
	linkPattern = regexp.MustCompile(`(?i)certnew\.cer\?ReqID=([0-9]{1,10})(?:&|")`)
	codePattern = regexp.MustCompile(`(?i)\b0x([89a-f][0-9a-f]{7})\b`)
	// titleMark is an element's name, which is the same in every language. All
	// pages of web enrollment have it.
	titleMark = regexp.MustCompile(`(?i)\bid\s*=\s*["']?locPageTitle\b`)

	englishPending = regexp.MustCompile(`(?i)your request id is ([0-9]{1,10})\b`)
	scripts        = regexp.MustCompile(`(?is)<(script|style|title)\b.*?</(?:script|style|title)\s*>`)
	markup         = regexp.MustCompile(`(?s)<[^>]*>`)
	numbers        = regexp.MustCompile(`[0-9]+`)
	endOfPage      = regexp.MustCompile(`(?i)</html>\s*$`)
)

// readVerdict reads the answer to a submission: a link to the certificate
// first, a failing code second. A pending request has neither: its page is one
// of web enrollment that was not cut off, with one number for people to read.
func readVerdict(page []byte) verdict {
	if m := linkPattern.FindSubmatch(page); m != nil {
		if id, ok := requestID(string(m[1])); ok {
			return verdict{outcome: issued, requestID: id, certain: true}
		}
	}
	if code, ok := failingCode(page); ok {
		return verdict{outcome: refused, code: code, certain: true}
	}
	if !isEnrollmentPage(page) {
		return verdict{}
	}
	visible := text(page)
	if m := englishPending.FindStringSubmatch(visible); m != nil {
		if id, ok := requestID(m[1]); ok {
			return verdict{outcome: parked, requestID: id, certain: true}
		}
	}
	if all := numbers.FindAllString(visible, 2); len(all) == 1 {
		if id, ok := requestID(all[0]); ok {
			return verdict{outcome: parked, requestID: id}
		}
	}
	return verdict{}
}

// readStatus reads the page that comes in place of a certificate: a failing
// code, or else a request under submission, in whatever words.
func readStatus(page []byte) verdict {
	if code, ok := failingCode(page); ok {
		return verdict{outcome: refused, code: code, certain: true}
	}
	if isEnrollmentPage(page) {
		return verdict{outcome: parked}
	}
	return verdict{}
}

func isEnrollmentPage(page []byte) bool { return titleMark.Match(page) && endOfPage.Match(page) }

// failingCode is the first HRESULT of a failure; codes such as 0x0 are not.
func failingCode(page []byte) (int32, bool) {
	m := codePattern.FindSubmatch(page)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(m[1]), 16, 32)
	return int32(uint32(n)), err == nil
}

func requestID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31) // a long of the CA's database
	return uint32(n), err == nil && n > 0
}

// text is a page without scripts and markup.
func text(page []byte) string {
	s := scripts.ReplaceAllString(string(page), " ")
	return strings.Join(strings.Fields(markup.ReplaceAllString(s, " ")), " ")
}

var renewalsPattern = regexp.MustCompile(`\bnRenewals\s*=\s*([0-9]{1,4})\s*;`)

// readRenewals reads from certcarc.asp how often the CA's certificate was
// renewed: the index of the newest.
func readRenewals(page []byte) (int, bool) {
	m := renewalsPattern.FindSubmatch(page)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}
