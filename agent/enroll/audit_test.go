package enroll_test

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// from sends a request from an address, as scephttp hands it on.
func (w *world) from(source string, req *scep.Request) *scep.Result {
	w.t.Helper()
	res, err := w.endpoint.Enroll(scephttp.WithSource(w.t.Context(), netip.MustParseAddr(source)), req)
	if err != nil {
		w.t.Fatalf("Enroll: %v", err)
	}
	return res
}

// line is the one audit line of that name.
func (w *world) line(message string) map[string]any {
	w.t.Helper()
	lines := w.audit.FilterMessage(message).All()
	if len(lines) != 1 {
		w.t.Fatalf("%d audit lines %q, want one; all: %v", len(lines), message, w.audit.All())
	}
	return lines[0].ContextMap()
}

// TestAuditTellsEachDecision: one line a decision, with what M18 wants of it.
func TestAuditTellsEachDecision(t *testing.T) {
	const refused, afterGrant, issued, ended, parked = "request refused", "refused after the module's grant",
		"certificate issued", "request ended without a certificate for the device", "parked at the CA"
	for name, tc := range map[string]struct {
		change func(w *world, d *device)
		line   string
		want   map[string]any
		spent  bool // the challenge is in the line
	}{
		"the module refuses": {func(_ *world, d *device) { d.challenge = "bad, and a secret" }, refused, map[string]any{
			"verdict": "refused", "rule": "challenge_wrong", "fail_info": "badRequest", "detail": "wrong challenge", "notify": "none",
			"intune_event": int64(4005), "ndes_event": int64(29),
		}, false},
		"a rule refuses what nobody spent": {func(w *world, d *device) { w.cloud.indifferent, d.extra = true, ext(w.t, oid(1, 2, 3), "x") }, refused, map[string]any{
			"verdict": "refused", "rule": "extension_not_allowed", "notify": "none",
		}, false},
		"a rule refuses after a grant": {func(w *world, d *device) { d.extra = ext(w.t, oid(1, 2, 3), "x") }, afterGrant, map[string]any{
			"verdict": "refused", "rule": "extension_not_allowed", "fail_info": "badRequest", "notify": "owed", "state": "failed",
			"intune_event": int64(4005), "ndes_event": int64(31),
		}, true},
		"issued": {func(*world, *device) {}, issued, map[string]any{
			"verdict": "granted", "state": "issued", "notify": "owed", "intune_event": int64(4006),
		}, true},
		"issued where nobody is told": {func(w *world, _ *device) { w.cloud.indifferent = true }, issued, map[string]any{
			"verdict": "granted", "state": "released", "notify": "none",
		}, false},
		"the CA denies": {func(w *world, _ *device) {
			w.core.deny = &ca.Denied{HResult: ca.HResultTemplateDenied, Text: "no enrol right"}
		}, ended, map[string]any{
			"verdict": "granted", "state": "failed", "rule": "ca_denied", "detail": "no enrol right", "notify": "owed",
			"intune_event": int64(4007), "ndes_event": int64(31),
		}, true},
		"the CA parks": {func(w *world, _ *device) { w.core.park = true }, parked, map[string]any{
			"verdict": "granted", "ca_request_id": "1", "notify": "not due",
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.ModuleKind, w.config.Templates = "test", enroll.Templates{General: "Device"}
				w.start()
				d := newDevice(0, "good, and a secret")
				tc.change(w, &d)
				req := d.request(t, scep.PKCSReq)
				w.from("192.0.2.44", req)
				w.later(time.Second)
				got := w.line(tc.line)
				digest := req.CSR.Digest()
				for key, want := range map[string]any{
					"endpoint": "corp", "source": "192.0.2.44", "transaction_id": "T0", "subject": "CN=device 0", "san": "dns:device.example.test",
					"csr_sha256": hex.EncodeToString(digest[:]), "ca": "issuing", "template": "Device", "module": "test",
				} {
					if got[key] != want {
						t.Errorf("%s is %v, want %v", key, got[key], want)
					}
				}
				for key, want := range tc.want {
					if got[key] != want {
						t.Errorf("%s is %v, want %v", key, got[key], want)
					}
				}
				if id, _ := got["challenge_id"].(string); (len(id) == 16) != tc.spent {
					t.Errorf("challenge_id is %q", id)
				}
				if (tc.line == issued) != (got["serial"] != nil) {
					t.Errorf("serial is %v", got["serial"])
				}
				wantNoSecret(t, d.challenge, w.audit, w.log)
			})
		})
	}
}

func wantNoSecret(t *testing.T, secret string, logs ...*observer.ObservedLogs) {
	t.Helper()
	for _, log := range logs {
		for _, line := range log.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, secret) {
				t.Errorf("a line has the challenge: %s", text)
			}
		}
	}
}

// TestAuditTextIsCleaned: what a device calls itself cannot play with a
// terminal, forge a line or fill the disk.
func TestAuditTextIsCleaned(t *testing.T) {
	for name, tc := range map[string]struct {
		san  string
		want string // begins with
	}{
		"escape sequence": {"a\x1b[2Jb", `"dns:a\x1b[2Jb"`},
		"new line":        {"a\nrequest refused", `"dns:a\nrequest refused"`},
		"right to left":   {"a\u202eb", `"dns:a\u202eb"`},
		"no UTF-8":        {"a\xff", `"dns:a\xff"`},
		"very long":       {strings.Repeat("x", 40000), `"dns:xxxx`},
		"plain":           {"device.example.test", "dns:device.example.test"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				d := newDevice(0, "bad")
				d.transaction = tc.san[:min(len(tc.san), 255)]
				d.extra = append(d.extra, generalNames(t, dns(tc.san)))
				w.from("192.0.2.44", d.request(t, scep.PKCSReq))
				line := w.line("request refused")
				if got := line["san"].(string); !strings.HasPrefix(got, tc.want) || len(got) > 1024 {
					t.Errorf("san is %.100q of %d octets, want %q", got, len(got), tc.want)
				}
				for _, key := range []string{"san", "subject", "transaction_id"} {
					for _, c := range line[key].(string) {
						if c < ' ' || c > '~' {
							t.Fatalf("%s holds %q", key, c)
						}
					}
				}
			})
		})
	}
}

// TestAuditNamesEveryKindOfName in a form that people read.
func TestAuditNamesEveryKindOfName(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := newDevice(0, "bad")
		d.extra = append(d.extra, generalNames(t, dns("a.example.test"), email("a@example.test"), uri(sidTag+anna)))
		w.from("2001:db8::7", d.request(t, scep.PKCSReq))
		line := w.line("request refused")
		if want := "dns:a.example.test, email:a@example.test, uri:" + sidTag + anna; line["san"] != want || line["source"] != "2001:db8::7" {
			t.Errorf("san %q, source %q", line["san"], line["source"])
		}
	})
}

// TestIntuneEventsOfTheRequest: received and verified are lines of operation.
func TestIntuneEventsOfTheRequest(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.want(w.ask(newDevice(0, "good")), scep.Success)
		for message, want := range map[string]int64{"request received": 4003, "request verified": 4004} {
			if got := w.log.FilterMessage(message).All(); len(got) != 1 || got[0].ContextMap()["intune_event"] != want {
				t.Errorf("%q: %v, want one line with %d", message, got, want)
			}
		}
	})
}

// TestFailedRenewalHasItsEvent: NDES counts it apart.
func TestFailedRenewalHasItsEvent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := newDevice(0, "good")
		d.signer = foreignCertificate(t, &device{key: d.key, cn: d.cn, transaction: d.transaction, signer: selfSignedBy(t, 0)})
		w.wantFailure(w.send(d.request(t, scep.RenewalReq)), scep.BadCertID)
		if got := w.line("request refused"); got["ndes_event"] != int64(28) || got["rule"] != string(enroll.RuleRenewalSigner) {
			t.Errorf("ndes_event %v, rule %v", got["ndes_event"], got["rule"])
		}
	})
}

// TestRecentRefusals are what the journal does not know, newest first.
func TestRecentRefusals(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		began := time.Now()
		w.from("192.0.2.1", newDevice(0, "bad").request(t, scep.PKCSReq))
		w.later(time.Minute)
		w.from("192.0.2.2", newDevice(1, "bad").request(t, scep.PKCSReq))
		w.from("192.0.2.3", newDevice(2, "good").request(t, scep.PKCSReq))
		w.from("192.0.2.4", newDevice(3, "").request(t, scep.CertPoll))
		all := w.reg.Recent("")
		if len(all) != 3 || all[0].TransactionID != "T3" || all[1].TransactionID != "T1" || all[2].TransactionID != "T0" {
			t.Fatalf("refusals %+v", all)
		}
		if got := all[0]; got.Rule != string(enroll.RuleNoRequest) || got.FailInfo != scep.BadCertID || got.Source != "192.0.2.4" {
			t.Errorf("the poll is %+v", got)
		}
		want := enroll.Refusal{
			Time: began, Endpoint: "corp", TransactionID: "T0", Source: "192.0.2.1", Subject: "CN=device 0",
			Rule: "challenge_wrong", FailInfo: scep.BadRequest, Detail: "wrong challenge",
		}
		if got := w.reg.Recent("T0"); len(got) != 1 || got[0] != want {
			t.Errorf("T0: %+v, want %+v", got, want)
		}
		if got := w.reg.Recent("T2"); len(got) != 0 {
			t.Errorf("a request that was issued is among the refusals: %+v", got)
		}
	})
}

// TestRecentRefusalsAreBounded: the oldest go.
func TestRecentRefusalsAreBounded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		poll := newDevice(0, "").request(t, scep.CertPoll)
		for i := range 5000 {
			poll.TransactionID = fmt.Sprint(i)
			w.send(poll)
		}
		all := w.reg.Recent("")
		if len(all) != 4096 || all[0].TransactionID != "4999" || all[4095].TransactionID != "904" {
			t.Errorf("%d refusals, from %v to %v", len(all), all[0].TransactionID, all[len(all)-1].TransactionID)
		}
	})
}
