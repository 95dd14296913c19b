package crphttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
)

// The names of the rules that refuse a request here, beside the module's own.
const (
	RuleRequestMalformed policymodule.Reason = "certificate_request_malformed"
	RuleKeyProof         policymodule.Reason = "key_proof"
	RuleDigest           policymodule.Reason = "csr_digest"
	RuleChallengeUsed    policymodule.Reason = "challenge_used"
)

// granted and refused are the bodies of status 201. They are flat and begin
// with the verdict, so that a small reader finds its way.
type granted struct {
	Verdict            string `json:"verdict"` // "granted"
	Notify             bool   `json:"notify"`
	NamesVouched       bool   `json:"namesVouched"`
	ReleasesItself     bool   `json:"releasesItself"`
	MaxValiditySeconds int64  `json:"maxValiditySeconds"` // 0: no cap
	ChallengeMade      string `json:"challengeMade,omitempty"`
}

type refused struct {
	Verdict      string              `json:"verdict"` // "refused"
	Rule         policymodule.Reason `json:"rule"`
	FailInfo     int                 `json:"failInfo"`
	FailInfoName string              `json:"failInfoName"`
	Detail       string              `json:"detail"`
}

// failInfoNames are those of RFC 8894, section 3.2.1.4.
var failInfoNames = map[policymodule.FailInfo]string{
	policymodule.BadAlg: "badAlg", policymodule.BadMessageCheck: "badMessageCheck", policymodule.BadRequest: "badRequest",
	policymodule.BadTime: "badTime", policymodule.BadCertID: "badCertId",
}

// verify answers VerifyRequest.
func (x *exchange) verify(body []byte) *problem {
	q, err := parseVerify(body)
	if err != nil {
		return malformed(err)
	}
	module, p := x.chooseTenant(q.tenant)
	if p != nil {
		return p
	}
	key := policymodule.VerdictKey{Caller: x.frontEnd.Name, Tenant: x.tenant, TransactionID: q.transaction, CSRDigest: sha256.Sum256(q.csr)}
	x.about(key, q.endpoint)
	x.log.Info("registration point asked", eventid.RequestReceived.Field(), zap.String("template", q.template))
	csr, refusal := x.readRequest(q.csr)
	if refusal != nil {
		x.decided(*refusal)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), x.limits.AskTime)
	defer cancel()
	request := policymodule.Request{Endpoint: q.endpoint, TransactionID: q.transaction, CSR: csr, Template: q.template, Renewal: q.renewal}
	decision, err, _ := x.asking.Do(flight(key, request), func() (any, error) {
		return x.decide(ctx, module, key, request)
	})
	if err != nil {
		return x.later(RuleCouldNotAsk, "nobody could be asked about this request; come again", err)
	}
	x.decided(decision.(policymodule.Decision))
	return nil
}

// flight names a question: two are joined only when all that decides is equal.
func flight(k policymodule.VerdictKey, r policymodule.Request) string {
	var renewal []byte
	if r.Renewal != nil {
		renewal = r.Renewal.Raw
	}
	return fmt.Sprintf("%q %q %q %x %q %q %x", k.Caller, k.Tenant, k.TransactionID, k.CSRDigest, r.Endpoint, r.Template, sha256.Sum256(renewal))
}

// readRequest reads a certification request and wants proof of its key.
func (x *exchange) readRequest(der []byte) (*pkcs10.Request, *policymodule.Decision) {
	csr, err := pkcs10.Parse(der)
	if err != nil {
		return nil, x.wrong(RuleRequestMalformed, policymodule.BadRequest, err.Error())
	}
	switch err := csr.CheckSignature(); {
	case errors.Is(err, pkcs10.ErrWeakDigest) && x.frontEnd.LegacySHA1:
	case errors.Is(err, pkcs10.ErrWeakDigest):
		refusal := policymodule.Refuse(RuleDigest, policymodule.BadAlg, "the request is signed over SHA-1")
		return nil, &refusal
	case err != nil:
		return nil, x.wrong(RuleKeyProof, policymodule.BadMessageCheck, err.Error())
	}
	if x.frontEnd.Check != nil {
		return csr, x.frontEnd.Check(csr)
	}
	return csr, nil
}

// wrong refuses what no front end should have forwarded.
func (x *exchange) wrong(rule policymodule.Reason, info policymodule.FailInfo, detail string) *policymodule.Decision {
	x.failures.count(x.frontEnd.Name)
	refusal := policymodule.Refuse(rule, info, detail)
	return &refusal
}

// decide finds or asks for a verdict. A grant is on disk before anybody hears
// of it. An error says that nobody could be asked.
func (x *exchange) decide(ctx context.Context, module policymodule.Module, key policymodule.VerdictKey, request policymodule.Request) (policymodule.Decision, error) {
	// 1 The same request again, because its answer was lost?
	recorded, err := x.config.Verdicts.FindVerdict(ctx, key)
	switch {
	case errors.Is(err, policymodule.ErrNoVerdict):
	case err != nil:
		return policymodule.Decision{}, fmt.Errorf("looking for a verdict: %w", err)
	case recorded.Outcome != "":
		return policymodule.Refuse(RuleChallengeUsed, policymodule.BadRequest, "the outcome of this request was reported before: "+recorded.Outcome), nil
	case x.config.Clock().Sub(recorded.At) < x.limits.GrantLife:
		if r, ok := module.(Recaller); ok {
			return r.Recall(recorded), nil
		}
	}

	// 2 Ask.
	decision, err := module.Verify(ctx, request)
	failpoint.Hit("crphttp.asked")
	if err != nil || !decision.Granted {
		return decision, err
	}

	// 3 Record. The challenge is this front end's from here on.
	verdict, err := x.config.Verdicts.GrantVerdict(ctx, policymodule.Verdict{
		VerdictKey: key, ChallengeID: decision.ChallengeID, CSRKey: request.CSR.KeyDigest(),
		NameDigest: request.CSR.NameDigest(), At: x.config.Clock(),
	})
	failpoint.Hit("crphttp.granted-recorded")
	switch {
	case errors.Is(err, policymodule.ErrVerdictSpent):
		return policymodule.Refuse(RuleChallengeUsed, policymodule.BadRequest, err.Error()), nil
	case err != nil:
		return policymodule.Decision{}, fmt.Errorf("recording a verdict: %w", err)
	case verdict.Outcome != "":
		return policymodule.Refuse(RuleChallengeUsed, policymodule.BadRequest, "the outcome of this request was reported before: "+verdict.Outcome), nil
	}
	return decision, nil
}

// decided answers with a verdict.
func (x *exchange) decided(d policymodule.Decision) {
	fields := []zap.Field{zap.Bool("granted", d.Granted)}
	if d.ChallengeID != "" {
		fields = append(fields, zap.String("challenge_id", hex.EncodeToString([]byte(d.ChallengeID[:min(8, len(d.ChallengeID))]))))
	}
	if d.Granted {
		x.log.Info("registration point granted", eventid.Verified.Field())
		x.audit("registration point decided", fields...)
		answer := granted{
			Verdict: "granted", Notify: d.Notify, NamesVouched: d.VouchedNames, ReleasesItself: x.frontEnd.ReleasesItself,
			MaxValiditySeconds: int64((d.MaxValidity + time.Second - 1) / time.Second), // 0 would be no cap
		}
		if !d.ChallengeMade.IsZero() {
			answer.ChallengeMade = d.ChallengeMade.UTC().Format(time.RFC3339)
		}
		x.send(http.StatusCreated, jsonType, answer)
		return
	}
	x.log.Info("registration point refused", eventid.VerifyFailed.Field(), zap.String("rule", string(d.Rule)), zap.String("detail", d.Detail))
	x.audit("registration point decided", append(fields, zap.String("rule", string(d.Rule)))...)
	x.send(http.StatusCreated, jsonType, refused{
		Verdict: "refused", Rule: d.Rule, FailInfo: int(d.FailInfo), FailInfoName: failInfoNames[d.FailInfo], Detail: cut(d.Detail, 512),
	})
}

// about has every further line name the request.
func (x *exchange) about(key policymodule.VerdictKey, endpoint string) {
	x.log = x.log.With(zap.String("tenant", x.tenant), zap.String("endpoint", endpoint),
		zap.String("transaction_id", printable(key.TransactionID)), zap.String("csr_sha256", hex.EncodeToString(key.CSRDigest[:])))
	x.request = []zap.Field{
		zap.String("source", x.r.RemoteAddr), zap.String("front_end", key.Caller), zap.String("tenant", key.Tenant), zap.String("endpoint", endpoint),
		zap.String("transaction_id", printable(key.TransactionID)), zap.String("csr_sha256", hex.EncodeToString(key.CSRDigest[:])),
	}
}

// audit writes the one line of a decision.
func (x *exchange) audit(what string, fields ...zap.Field) {
	x.config.Audit.Info(what, append(x.request[:len(x.request):len(x.request)], fields...)...)
}

// printable quotes what could play with a terminal or a log.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// cut shortens text without cutting a character.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
