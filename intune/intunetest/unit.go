package intunetest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/intune"
)

const scepVersion = "2018-02-20"

// scepPath has the shape of real ones: several segments, so that wrongly
// joined addresses are found out.
func (c *Cloud) scepPath() string {
	return c.unitPath() + "/RACerts/ScepRequestValidationFEService/Gateway/StatelessScepRequestValidationService"
}

// pkiPath is the base of the revocation actions.
func (c *Cloud) pkiPath() string {
	return c.unitPath() + "/RACerts/StatelessPkiConnectorService/Gateway/StatelessPkiConnectorService"
}

func (c *Cloud) unitPath() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unit == 0 {
		return ""
	}
	return fmt.Sprintf("/unit%d", c.unit)
}

// ScaleUnit is the part of Intune that the tenants live in.
func (c *Cloud) ScaleUnit() http.Handler {
	scep := map[string]http.HandlerFunc{
		"ScepActions/validateRequest":     c.at(Validate, c.action(c.validate)),
		"ScepActions/successNotification": c.at(Success, c.action(c.success)),
		"ScepActions/failureNotification": c.at(Failure, c.action(c.failure)),
	}
	pki := map[string]http.HandlerFunc{
		c.options.Revocation.DownloadAction: c.at(Download, c.download),
		c.options.Revocation.UploadAction:   c.at(Upload, c.upload),
	}
	find := func(path string) http.HandlerFunc {
		if name, ok := strings.CutPrefix(path, c.scepPath()+"/"); ok {
			return scep[name]
		}
		if name, ok := strings.CutPrefix(path, c.pkiPath()+"/"); ok {
			return pki[name]
		}
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := find(r.URL.Path)
		if handler == nil || r.Method != http.MethodPost || r.URL.RawQuery != "" {
			handler = c.at("unknown", func(w http.ResponseWriter, r *http.Request) {
				serviceError(w, r, http.StatusNotFound, "ResourceNotFound", "No service at this address.")
			})
		}
		handler(w, r)
	})
}

// received checks what all actions of the scale unit have in common: token,
// role, content type and api-version. It has answered when it reports false.
func (c *Cloud) received(w http.ResponseWriter, r *http.Request, version string) (jwtClaims, []byte, bool) {
	refuse := func(status int, code, words string) (jwtClaims, []byte, bool) {
		serviceError(w, r, status, code, words)
		return jwtClaims{}, nil, false
	}
	claims, err := c.checkToken(bearer(r))
	if err != nil || strings.TrimSuffix(claims.Audience, "/")+"/" != intuneResource {
		return refuse(http.StatusUnauthorized, "Unauthorized", "The token is missing, expired or for another audience.")
	}
	if !slices.Contains(claims.Roles, RoleIntune) {
		return refuse(c.options.RoleStatus, "Unauthorized", "Application is not authorized to perform this operation. Application must have one of the following scopes: "+RoleIntune)
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The body must be JSON.")
	}
	if r.Header.Get("api-version") != version {
		return refuse(http.StatusBadRequest, "BadRequest", "The api-version is not supported.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return refuse(http.StatusBadRequest, "BadRequest", err.Error())
	}
	return claims, body, true
}

// verdict is the answer of an action.
type verdict struct {
	code  intune.Code
	words string
}

// action checks what all SCEP actions have in common, and writes their verdict.
func (c *Cloud) action(do func(*tenant, map[string]json.RawMessage) (verdict, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		claims, body, ok := c.received(w, r, scepVersion)
		if !ok {
			return
		}
		fields, err := c.content(body)
		if err != nil {
			serviceError(w, r, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		c.mu.Lock()
		v, err := do(c.find(claims.TenantID), fields)
		c.mu.Unlock()
		if err != nil {
			serviceError(w, r, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		c.note(r, string(v.code))
		w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
		_ = json.NewEncoder(w).Encode(map[string]string{"code": string(v.code), "errorDescription": v.words})
	}
}

// content takes the fields out of {"request": {…}} or {"notification": {…}}.
func (c *Cloud) content(body []byte) (map[string]json.RawMessage, error) {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(body, &outer); err != nil {
		return nil, fmt.Errorf("the body is not a JSON object")
	}
	for name, inner := range outer {
		if name != "request" && name != "notification" && (c.options.Strict || !strings.EqualFold(name, "request") && !strings.EqualFold(name, "notification")) {
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(inner, &fields); err != nil {
			return nil, fmt.Errorf("%s is not a JSON object", name)
		}
		if !c.options.Strict {
			for k, v := range fields {
				delete(fields, k)
				fields[strings.ToLower(k[:min(1, len(k))])+k[min(1, len(k)):]] = v
			}
		}
		return fields, nil
	}
	return nil, fmt.Errorf("the body has neither request nor notification")
}

// text reads a field that must be a text which is not blank.
func text(fields map[string]json.RawMessage, name string) (string, error) {
	var s string
	if json.Unmarshal(fields[name], &s) != nil || strings.TrimSpace(s) == "" {
		return "", fmt.Errorf("%s is missing", name)
	}
	return s, nil
}

// optional reads a field that may be a text, null or absent.
func optional(fields map[string]json.RawMessage, name string) string {
	var s string
	_ = json.Unmarshal(fields[name], &s)
	return s
}

// subjectOf reads the fields that all actions have.
func (c *Cloud) subjectOf(fields map[string]json.RawMessage) (id string, der []byte, caller string, err error) {
	if id, err = text(fields, "transactionId"); err != nil {
		return "", nil, "", err
	}
	encoded, err := text(fields, "certificateRequest")
	if err != nil {
		return "", nil, "", err
	}
	if caller, err = text(fields, "callerInfo"); err != nil {
		return "", nil, "", err
	}
	if !c.options.Strict {
		encoded = strings.NewReplacer("\r", "", "\n", "",
			"-----BEGIN CERTIFICATE REQUEST-----", "", "-----END CERTIFICATE REQUEST-----", "").Replace(encoded)
	}
	if strings.ContainsAny(encoded, "\r\n") {
		return id, nil, caller, nil
	}
	der, _ = base64.StdEncoding.DecodeString(encoded) // nil is answered with a code
	return id, der, caller, nil
}

func (c *Cloud) validate(t *tenant, fields map[string]json.RawMessage) (verdict, error) {
	id, der, _, err := c.subjectOf(fields)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{code: intune.CertificateRequestDecodingFailed, words: "The request is no PKCS #10."}
	tr := c.records.transaction(t.ID, id, true)
	if q, err := readCSR(der); err == nil {
		v.code, v.words = c.judge(t, q)
		if cl, code := c.makers.open(q.challenge, c.clock()); code == intune.Success {
			tr.Device = cl.DeviceID
		}
	}
	tr.CSRHash, tr.Verdict = digest(der), string(v.code)
	tr.Validations++
	return v, nil
}

func (c *Cloud) success(t *tenant, fields map[string]json.RawMessage) (verdict, error) {
	id, der, caller, err := c.subjectOf(fields)
	if err != nil {
		return verdict{}, err
	}
	n := Notification{
		Time: c.clock(), Tenant: t.ID, TransactionID: id, CSRHash: digest(der), Success: true, CallerInfo: caller,
		CAConfiguration:      optional(fields, "caConfiguration"),
		CertificateAuthority: optional(fields, "certificateAuthority"),
	}
	for name, field := range map[string]*string{
		"certificateThumbprint": &n.Thumbprint, "certificateSerialNumber": &n.SerialNumber,
		"certificateExpirationDateUtc": &n.Expires, "issuingCertificateAuthority": &n.IssuingCA,
	} {
		if *field, err = text(fields, name); err != nil {
			return verdict{}, err
		}
	}
	if b, err := hex.DecodeString(n.Thumbprint); err != nil || len(b) != 20 {
		return verdict{}, fmt.Errorf("certificateThumbprint is not a SHA-1 thumbprint")
	}
	if strings.Trim(strings.ToUpper(n.SerialNumber), "0123456789ABCDEF") != "" {
		return verdict{}, fmt.Errorf("certificateSerialNumber is not hexadecimal")
	}
	if _, err := time.Parse(time.RFC3339Nano, n.Expires); err != nil {
		return verdict{}, fmt.Errorf("certificateExpirationDateUtc is not a date")
	}
	if len([]rune(n.IssuingCA)) > 256 {
		return verdict{}, fmt.Errorf("issuingCertificateAuthority is too long")
	}
	return c.accept(t, n)
}

func (c *Cloud) failure(t *tenant, fields map[string]json.RawMessage) (verdict, error) {
	id, der, caller, err := c.subjectOf(fields)
	if err != nil {
		return verdict{}, err
	}
	n := Notification{Time: c.clock(), Tenant: t.ID, TransactionID: id, CSRHash: digest(der), CallerInfo: caller}
	if json.Unmarshal(fields["hResult"], &n.HResult) != nil || n.HResult < -1<<31 || n.HResult > 1<<32-1 {
		return verdict{}, fmt.Errorf("hResult is not a 32-bit number")
	}
	if n.Description, err = text(fields, "errorDescription"); err != nil {
		return verdict{}, err
	}
	if len([]rune(n.Description)) > 255 {
		return verdict{}, fmt.Errorf("errorDescription is too long")
	}
	return c.accept(t, n)
}

// accept records a notification. The caller holds c.mu.
func (c *Cloud) accept(t *tenant, n Notification) (verdict, error) {
	tr := c.records.transaction(t.ID, n.TransactionID, !c.options.Strict)
	if c.options.Strict && (tr == nil || tr.CSRHash != n.CSRHash || tr.Verdict != string(intune.Success)) {
		return verdict{intune.Unknown, "The transaction was not validated with this request (a policy of the simulator)."}, nil
	}
	if err := c.records.take(n); err != nil {
		return verdict{}, err
	}
	if n.Success {
		tr.Successes++
	} else {
		tr.Failures++
	}
	return verdict{code: intune.Success}, nil
}

// serviceError writes an error as Intune's front ends do: JSON within JSON.
func serviceError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	inner, _ := json.Marshal(map[string]any{
		"_version": 3, "Message": message + " - Activity ID: " + r.Header.Get("client-request-id"),
		"CustomApiErrorPhrase": "", "RetryAfter": nil,
	})
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": code, "message": string(inner)}})
}
