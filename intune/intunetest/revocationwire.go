package intunetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/certconnector/certconnector/intune"
)

// members reads an object whose names are compared without regard to case, as
// the real service is known to do, unless the cloud is strict.
func (c *Cloud) members(raw json.RawMessage, names ...string) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return nil, errors.New("a JSON object is missing")
	}
	if c.options.Strict {
		return fields, nil
	}
	for have, value := range fields {
		for _, name := range names {
			if strings.EqualFold(have, name) {
				fields[name] = value
			}
		}
	}
	return fields, nil
}

// download answers downloadRevocationRequests.
func (c *Cloud) download(w http.ResponseWriter, r *http.Request) {
	claims, body, ok := c.received(w, r, c.options.Revocation.Version)
	if !ok {
		return
	}
	most, issuer, err := c.parameters(body)
	if err != nil {
		serviceError(w, r, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	value := []any{}
	c.mu.Lock()
	for _, o := range c.offered(c.find(claims.TenantID), most, issuer) {
		if o.raw != nil {
			value = append(value, o.raw)
			continue
		}
		value = append(value, map[string]any{
			"requestContext": o.Context, "serialNumber": o.SerialNumber,
			"issuerName": orNull(o.Issuer), "caConfiguration": orNull(o.CAConfiguration),
		})
	}
	c.mu.Unlock()
	c.note(r, fmt.Sprintf("%d requests", len(value)))
	w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"@odata.context": "https://manage.microsoft.com/RACerts/StatelessPkiConnectorService/$metadata#Collection(microsoft.management.services.api.caRevocationRequest)",
		"value":          value,
	})
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// parameters reads the body of a download.
func (c *Cloud) parameters(body []byte) (most int, issuer string, err error) {
	outer, err := c.members(body, "downloadParameters")
	if err != nil {
		return 0, "", err
	}
	fields, err := c.members(outer["downloadParameters"], "maxRequests", "issuerName")
	if err != nil {
		return 0, "", errors.New("downloadParameters is missing")
	}
	if json.Unmarshal(fields["maxRequests"], &most) != nil || most < 1 || most > 500 {
		return 0, "", errors.New("maxRequests is not a number from 1 to 500")
	}
	if raw, ok := fields["issuerName"]; ok && json.Unmarshal(raw, &issuer) != nil {
		return 0, "", errors.New("issuerName is not a text")
	}
	if utf8.RuneCountInString(issuer) > 256 {
		return 0, "", errors.New("issuerName is too long")
	}
	return most, issuer, nil
}

// upload answers uploadRevocationResults: it takes all results, or none.
func (c *Cloud) upload(w http.ResponseWriter, r *http.Request) {
	claims, body, ok := c.received(w, r, c.options.Revocation.Version)
	if !ok {
		return
	}
	c.mu.Lock()
	results, err := c.results(c.find(claims.TenantID), body)
	if err == nil {
		err = c.records.settle(results)
	}
	c.mu.Unlock()
	if err != nil {
		c.note(r, "refused: "+err.Error())
		serviceError(w, r, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.note(r, fmt.Sprintf("%d results", len(results)))
	w.Header().Set("Content-Type", "application/json; odata.metadata=minimal")
	_ = json.NewEncoder(w).Encode(map[string]any{"@odata.context": "https://manage.microsoft.com/$metadata#Edm.Boolean", "value": true})
}

// results reads the body of an upload. The caller holds c.mu.
func (c *Cloud) results(t *tenant, body []byte) ([]RevocationResult, error) {
	outer, err := c.members(body, "results")
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if json.Unmarshal(outer["results"], &list) != nil || len(list) == 0 || len(list) > 500 {
		return nil, errors.New("results is not a list of 1 to 500 elements")
	}
	var out []RevocationResult
	for i, raw := range list {
		r, err := c.result(t, raw)
		if err != nil {
			return nil, fmt.Errorf("result %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (c *Cloud) result(t *tenant, raw json.RawMessage) (RevocationResult, error) {
	fields, err := c.members(raw, "requestContext", "succeeded", "errorCode", "errorMessage")
	if err != nil {
		return RevocationResult{}, err
	}
	r := RevocationResult{Time: c.clock(), Tenant: t.ID}
	if r.Context, err = text(fields, "requestContext"); err != nil {
		return r, err
	}
	if c.records.byContext[[2]string{t.ID, r.Context}] == nil {
		return r, errors.New("requestContext is unknown")
	}
	var succeeded *bool
	if json.Unmarshal(fields["succeeded"], &succeeded) != nil || succeeded == nil {
		return r, errors.New("succeeded is not a boolean")
	}
	r.Succeeded = *succeeded
	if r.Code, err = revocationCode(fields["errorCode"]); err != nil {
		return r, err
	}
	r.Message = optional(fields, "errorMessage")
	switch {
	case r.Succeeded && (r.Code != 0 || strings.TrimSpace(r.Message) != ""):
		return r, errors.New("a success has an error code or message")
	case !r.Succeeded && (r.Code == 0 || strings.TrimSpace(r.Message) == ""):
		return r, errors.New("a failure has no error code or message")
	}
	return r, nil
}

// revocationCode reads a code as either of Microsoft's libraries writes it: a
// name of any case, or a number, as a text or not.
func revocationCode(raw json.RawMessage) (int, error) {
	var n int
	var s string
	switch {
	case json.Unmarshal(raw, &s) == nil && s != "":
		number, err := strconv.Atoi(s)
		for _, code := range intune.RevocationCodes() {
			if strings.EqualFold(code.String(), s) || err == nil && int(code) == number {
				return int(code), nil
			}
		}
	case len(raw) > 0 && string(raw) != "null" && json.Unmarshal(raw, &n) == nil:
		for _, code := range intune.RevocationCodes() {
			if int(code) == n {
				return n, nil
			}
		}
	}
	return 0, errors.New("errorCode is unknown")
}
