package intune_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// Whatever Graph and Intune repeat of a call, neither an error nor a log line
// shows a token, a proof, a PFX or its password.
func TestNothingSecretOfJobsIsShown(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	known := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	p := userPFX(t)
	p.EncryptedPFX = []byte("short PFX")
	sealed := base64.StdEncoding.EncodeToString(p.EncryptedPassword)
	whole := proof(t, known, w.clock.Now())
	var seen bytes.Buffer
	for _, act := range []struct {
		endpoint intunetest.Endpoint
		call     func() error
	}{
		{intunetest.Download, func() error { return second(w.client.DownloadRevocations(t.Context(), 1, "")) }},
		{intunetest.Upload, func() error {
			return w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")})
		}},
		{intunetest.Applications, func() error { return second(w.client.Application(t.Context())) }},
		{intunetest.AddKey, func() error {
			return second(w.client.AddKey(t.Context(), intunetest.ContosoObject, known.Certificate.Raw, "", whole))
		}},
		{intunetest.RemoveKey, func() error { return w.client.RemoveKey(t.Context(), intunetest.ContosoObject, "x", whole) }},
		{intunetest.Users, func() error { return second(w.client.UserID(t.Context(), obrien)) }},
		{intunetest.PFXes, func() error { return w.client.CreatePFX(t.Context(), p) }},
	} {
		spill := fmt.Sprintf("proof %s password %s", whole, sealed)
		if act.endpoint == intunetest.PFXes { // another call does not know it
			spill += " PFX " + base64.StdEncoding.EncodeToString(p.EncryptedPFX)
		}
		for _, fault := range []intunetest.Fault{
			{}, {Body: `{"value":[{"requestContext":"` + spill + `"}]}`}, {Body: `"` + spill + `"`}, {Reset: true}, {Truncated: true},
			{Status: 500, Body: `{"error":{"code":"` + whole + `","message":"` + spill + `"}}`},
			{Status: 400, Body: `{"Message":"` + spill + `"}`},
			{Status: 401, Body: `{"odata.error":{"code":"x","message":{"value":"` + spill + `"}}}`},
		} {
			w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(known)}))
			w.cloud.Fail(act.endpoint, intunetest.Always, fault)
			fmt.Fprintf(&seen, "%s %+v\n", act.endpoint, act.call())
			w.cloud.Heal()
			dumpLogs(&seen, w)
		}
	}
	text := seen.String()
	if !strings.Contains(text, "activity_id") || !strings.Contains(text, "redacted") {
		t.Error("the log is not what it should be, or nothing was to be hidden")
	}
	for name, s := range map[string]string{
		"a token or proof":        "eyJ",
		"the end of a proof":      whole[len(whole)-40:],
		"the PFX":                 base64.StdEncoding.EncodeToString(p.EncryptedPFX),
		"a piece of the password": sealed[100:140],
	} {
		if i := strings.Index(text, s); i >= 0 {
			t.Errorf("%s is shown: …%s…", name, text[max(0, i-200):min(len(text), i+60)])
		}
	}
}
