package intune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// MaxRevocations is how many requests one download may ask for, and how many
// results one upload may carry. Microsoft recommends 100 or fewer.
const MaxRevocations = 500

const (
	maxDownload = 4 << 20 // bytes of a download's answer
	maxContext  = 4096    // octets of a request context, which is opaque
	maxSerial   = 256     // octets; a serial number has 40 digits, some write it with separators
	maxIssuer   = 1024    // octets; documented are 256 characters, but names come back as they were sent
)

// RevocationRequest is one certificate that Intune wants revoked. All texts
// are as they came: nothing in them has been checked but their length.
type RevocationRequest struct {
	Context         string // opaque; given back with the result
	Serial          string // as the success notification sent it, or whoever else did
	Issuer          string // issuingCertificateAuthority of the notification; may be empty
	CAConfiguration string // caConfiguration of the notification; may be empty
}

// RevocationBatch is the answer to a download. A request may come twice, in
// one batch or in two: delivery is at least once.
type RevocationBatch struct {
	Requests []RevocationRequest
	Bad      []string // why elements of the answer were skipped, fit for a log
}

// RevocationResult tells what became of a request.
type RevocationResult struct {
	Context   string // of the request, unchanged
	Succeeded bool   // the certificate is revoked, now or before
	Code      RevocationCode
	Message   string // why it failed; no secrets; cut to 255 characters
}

// ErrActionGone says that the service answers 404 or 410 to a revocation
// action, also after its address was looked up anew.
var ErrActionGone = errors.New("the service does not have this action any more; Microsoft has announced that downloadRevocationRequests will be removed: " +
	"look for a newer version of this program, or for the new names, which are set by revocation_service, revocation_version, download_action and upload_action of tenants[].api")

// DownloadRevocations asks for up to most requests, 1 to 500, of one issuer,
// or of all when issuer is empty. Intune answers with nothing for an hour
// after each download, so that it is sent once and not repeated, except with
// a new token or address after one was refused; it does not delete what it
// hands out. Errors that wrap ErrActionGone wait for an operator.
func (c *Client) DownloadRevocations(ctx context.Context, most int, issuer string) (RevocationBatch, error) {
	if most < 1 || most > MaxRevocations {
		return RevocationBatch{}, fmt.Errorf("%w: %d revocation requests are asked for, 1 to %d can be", ErrArgument, most, MaxRevocations)
	}
	if utf8.RuneCountInString(issuer) > 256 {
		return RevocationBatch{}, fmt.Errorf("%w: the name of the issuer has more than 256 characters", ErrArgument)
	}
	type parameters struct {
		MaxRequests int     `json:"maxRequests"`
		IssuerName  *string `json:"issuerName"` // null as Microsoft's libraries send it when there is no filter
	}
	content := struct {
		Parameters parameters `json:"downloadParameters"`
	}{parameters{MaxRequests: most}}
	if issuer != "" {
		content.Parameters.IssuerName = &issuer
	}
	p := c.revocationPost(c.config.Endpoints.DownloadAction)
	p.attempts, p.on500, p.limit = 1, 0, maxDownload
	answer, activity, err := c.revocation(ctx, p, content)
	if err != nil {
		return RevocationBatch{}, err
	}
	batch, err := parseRevocations(answer)
	if err != nil {
		return RevocationBatch{}, &ProtocolError{Call: p.call, Detail: err.Error(), ActivityID: activity}
	}
	return batch, nil
}

// UploadRevocations tells what became of requests, at most 500 at once. nil
// says that Intune has recorded all of them. After any other error it must be
// taken to have recorded none, though the answer alone may be lost: send them
// again, unless Final says that they are refused as they stand.
func (c *Client) UploadRevocations(ctx context.Context, results []RevocationResult) error {
	if err := checkResults(results); err != nil {
		return err
	}
	type result struct {
		Context   string `json:"requestContext"`
		Succeeded bool   `json:"succeeded"`
		Code      string `json:"errorCode"`
		Message   string `json:"errorMessage"`
	}
	var content struct {
		Results []result `json:"results"`
	}
	for _, r := range results {
		content.Results = append(content.Results, result{
			Context: r.Context, Succeeded: r.Succeeded,
			Code: c.config.RevocationCodes.spell(r.Code), Message: truncate(r.Message, maxDescription),
		})
	}
	p := c.revocationPost(c.config.Endpoints.UploadAction)
	p.attempts, p.on500 = 2, 1
	answer, activity, err := c.revocation(ctx, p, content)
	if err != nil {
		return err
	}
	if err := parseRecorded(answer); err != nil {
		return &ProtocolError{Call: p.call, Detail: err.Error(), ActivityID: activity}
	}
	return nil
}

func (c *Client) revocationPost(suffix string) post {
	e := c.config.Endpoints
	return post{
		call: suffixName(suffix), service: e.RevocationService, suffix: suffix, version: e.RevocationVersion,
		timeout: c.config.Timeouts.Revocation, total: 2 * c.config.Timeouts.Revocation,
	}
}

// revocation sends an action and recognises one that is no more.
func (c *Client) revocation(ctx context.Context, p post, content any) ([]byte, string, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %v", ErrArgument, err)
	}
	p.body = body
	answer, activity, err := c.post(ctx, p)
	if e, ok := errors.AsType[*HTTPError](err); ok && e.Call == p.call &&
		(e.Status == http.StatusNotFound || e.Status == http.StatusGone) {
		err = fmt.Errorf("%w: %w", err, ErrActionGone)
	}
	return answer, activity, err
}

// checkResults enforces what Microsoft's libraries do before an upload, and
// that no request is told two fates.
func checkResults(results []RevocationResult) error {
	if len(results) == 0 || len(results) > MaxRevocations {
		return fmt.Errorf("%w: %d results of revocations are given, 1 to %d can be sent", ErrArgument, len(results), MaxRevocations)
	}
	seen := make(map[string]RevocationResult, len(results))
	for i, r := range results {
		bad := func(why string) error { return fmt.Errorf("%w: result %d %s", ErrArgument, i+1, why) }
		message := strings.TrimSpace(r.Message)
		_, known := revocationNames[r.Code]
		earlier, twice := seen[r.Context]
		switch {
		case r.Context == "":
			return bad("has no request context")
		case !utf8.ValidString(r.Context):
			return bad("has a request context that is not valid UTF-8")
		case !known:
			return bad(fmt.Sprintf("has the code %d, which is not documented", int(r.Code)))
		case r.Succeeded && r.Code != RevocationNone:
			return bad("has succeeded with the code " + r.Code.String())
		case r.Succeeded && message != "":
			return bad("has succeeded with an error message")
		case !r.Succeeded && r.Code == RevocationNone:
			return bad("has failed without a code")
		case !r.Succeeded && message == "":
			return bad("has failed without a message")
		case twice && (earlier.Succeeded != r.Succeeded || earlier.Code != r.Code):
			return bad("contradicts another one of the same request")
		}
		seen[r.Context] = r
	}
	return nil
}

// parseRevocations reads the answer to a download. An element that cannot be
// acted on is skipped, so that it does not keep the others from being revoked.
func parseRevocations(body []byte) (RevocationBatch, error) {
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return RevocationBatch{}, errors.New("it is not a JSON object")
	}
	var elements *[]json.RawMessage
	if len(answer.Value) == 0 {
		return RevocationBatch{}, errors.New("it has no value")
	}
	if json.Unmarshal(answer.Value, &elements) != nil || elements == nil {
		return RevocationBatch{}, errors.New("its value is not a list")
	}
	var batch RevocationBatch
	for i, raw := range *elements {
		if i == MaxRevocations {
			batch.Bad = append(batch.Bad, fmt.Sprintf("the answer has %d elements, those after %d are left", len(*elements), MaxRevocations))
			break
		}
		r, err := parseRevocation(raw)
		if err != nil {
			batch.Bad = append(batch.Bad, fmt.Sprintf("element %d: %v", i+1, err))
			continue
		}
		batch.Requests = append(batch.Requests, r)
	}
	return batch, nil
}

func parseRevocation(raw json.RawMessage) (RevocationRequest, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return RevocationRequest{}, errors.New("it is not a JSON object")
	}
	var r RevocationRequest
	for _, f := range []struct {
		name     string
		to       *string
		limit    int
		required bool
	}{
		{"requestContext", &r.Context, maxContext, true}, {"serialNumber", &r.Serial, maxSerial, true},
		{"issuerName", &r.Issuer, maxIssuer, false}, {"caConfiguration", &r.CAConfiguration, maxIssuer, false},
	} {
		value, present := fields[f.name]
		switch {
		case present && json.Unmarshal(value, f.to) != nil: // null leaves the text empty
			return RevocationRequest{}, fmt.Errorf("%s is not a text", f.name)
		case f.required && strings.TrimSpace(*f.to) == "":
			return RevocationRequest{}, fmt.Errorf("%s is missing", f.name)
		case len(*f.to) > f.limit:
			return RevocationRequest{}, fmt.Errorf("%s has %d octets, more than %d", f.name, len(*f.to), f.limit)
		}
	}
	// What JSON cannot carry is replaced by this character: the context could
	// not be given back as it was.
	if strings.ContainsRune(r.Context, utf8.RuneError) {
		return RevocationRequest{}, errors.New("requestContext is not valid Unicode")
	}
	return r, nil
}

// parseRecorded reads the answer to an upload: only true, as a boolean or as a
// text of any case, says that the results are recorded.
func parseRecorded(body []byte) error {
	const again = ": the results are not recorded, send them again"
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return errors.New("it is not a JSON object" + again)
	}
	var recorded *bool
	var word string
	switch {
	case len(answer.Value) == 0:
		return errors.New("it has no value" + again)
	case json.Unmarshal(answer.Value, &recorded) == nil && recorded != nil && *recorded:
		return nil
	case json.Unmarshal(answer.Value, &word) == nil && strings.EqualFold(word, "true"):
		return nil
	}
	return errors.New("its value is not true" + again)
}
