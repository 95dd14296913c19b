package jobqueue

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// resultBody is one element of an upload.
type resultBody struct {
	RequestContext     string `json:"requestContext"`
	Succeeded          bool   `json:"succeeded"`
	ErrorCode          string `json:"errorCode"`
	ErrorMessage       string `json:"errorMessage"`
	CMSEnvelopedPFX    string `json:"cmsEnvelopedPfx,omitempty"`
	ImportedThumbprint string `json:"importedThumbprint,omitempty"`
}

// body returns the result as it is sent, or says why it makes no sense.
func (r Result) body() (resultBody, error) {
	sealed, imported := len(r.Sealed) > 0, r.Imported != ""
	switch {
	case r.Context == "":
		return resultBody{}, errors.New("a result has no requestContext")
	case r.Succeeded && (r.Code != None || sealed == imported):
		return resultBody{}, errors.New("a success has an error code, or nothing to hand over, or two things")
	case !r.Succeeded && (r.Code == None || sealed || imported):
		return resultBody{}, errors.New("a failure has no error code, or something to hand over")
	}
	b := resultBody{RequestContext: r.Context, Succeeded: r.Succeeded, ErrorCode: r.Code.String(), ErrorMessage: cut(r.Message)}
	if r.Succeeded {
		b.ErrorMessage, b.CMSEnvelopedPFX, b.ImportedThumbprint = "", base64.StdEncoding.EncodeToString(r.Sealed), r.Imported
	}
	return b, nil
}

// cut shortens a message and drops control characters.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	for i := range s {
		if i > mostText-utf8.UTFMax {
			return s[:i]
		}
	}
	return s
}

// readReceipt reads the answer to an upload. Only a plain true, or the text
// "true", says that the results were taken.
func readReceipt(body []byte) (bool, error) {
	var frame struct {
		Value any `json:"value"`
	}
	if err := json.Unmarshal(body, &frame); err != nil {
		return false, errors.New("the job queue's receipt cannot be read; are both sides of the same version?")
	}
	switch v := frame.Value.(type) {
	case bool:
		return v, nil
	case string:
		return strings.EqualFold(v, "true"), nil
	}
	return false, errors.New("the job queue's receipt says neither true nor false; are both sides of the same version?")
}
