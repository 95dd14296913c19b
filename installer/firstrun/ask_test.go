package firstrun_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// interview asks with the given answers, a line each, and returns what was
// shown.
func interview(t *testing.T, o *firstrun.Options, given []string, answers ...string) (shown string, err error) {
	t.Helper()
	var out bytes.Buffer
	in := strings.NewReader(strings.Join(answers, "\n") + "\n")
	iv := firstrun.NewInterview(in, &out, func(flag string) bool { return slices.Contains(given, flag) })
	err = iv.Ask(t.Context(), o)
	return out.String(), err
}

// Empty answers take the defaults that are shown.
func TestDefaultsAreShownAndTaken(t *testing.T) {
	o := firstrun.Options{Dir: t.TempDir()}
	shown, err := interview(t, &o, []string{"dir"}, "scep.example, 192.0.2.1", "", "", "contoso.onmicrosoft.com", "app-1", "")
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	if o.CA != firstrun.CAEmbedded || o.Policy != firstrun.PolicyIntune || o.Tenant != "contoso.onmicrosoft.com" || o.ClientID != "app-1" ||
		o.Listen != ":443" || !slices.Equal(o.Hostnames, []string{"scep.example", "192.0.2.1"}) {
		t.Errorf("options %+v", o)
	}
	for _, want := range []string{"[embedded]", "[intune]", "[:443]"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is not shown:\n%s", want, shown)
		}
	}
	if o.Open() {
		t.Error("something is open after all questions")
	}
}

// What flags said is not asked for.
func TestFlagsAreNotAskedFor(t *testing.T) {
	o := firstrun.Options{Policy: firstrun.PolicyStatic, Hostnames: []string{"scep.example"}, CA: firstrun.CAEmbedded, Listen: ":8443"}
	shown, err := interview(t, &o, []string{"policy", "hostname", "ca", "listen"}, "here")
	if err != nil || strings.Count(shown, "]: ") != 1 || o.Dir != "here" {
		t.Errorf("%+v, %v, shown:\n%s", o, err, shown)
	}
}

func TestMicrosoftCAIsAskedFor(t *testing.T) {
	chain, keytab := microsoftFiles(t)
	o := firstrun.Options{Dir: t.TempDir(), System: "linux"}
	shown, err := interview(t, &o, []string{"dir", "listen", "hostname"},
		"2", "nonsense", `ca01.corp.example\Corp CA`, "/nowhere", chain, "Devices", "", "RAEncrypt", "svc", "svc@CORP.EXAMPLE", keytab, "static")
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	want := firstrun.MicrosoftCA{
		Config: `ca01.corp.example\Corp CA`, Chain: chain, Template: "Devices", SigningTemplate: "EnrollmentAgentOffline", EncryptionTemplate: "RAEncrypt",
		Principal: "svc@CORP.EXAMPLE", Keytab: keytab,
	}
	if o.CA != firstrun.CAADCS || o.Microsoft != want || o.Policy != firstrun.PolicyStatic || o.Open() {
		t.Errorf("options %+v", o)
	}
	for _, says := range []string{`is not host\name`, "/nowhere", "is not user@REALM"} {
		if !strings.Contains(shown, says) {
			t.Errorf("a wrong answer is not answered with %q:\n%s", says, shown)
		}
	}
}

// On Windows the service's own account is the default, and then nothing more is
// asked about it.
func TestOwnAccountIsAskedForOnWindows(t *testing.T) {
	chain, _ := microsoftFiles(t)
	o := firstrun.Options{Dir: t.TempDir(), System: "windows"}
	shown, err := interview(t, &o, []string{"dir", "listen", "hostname", "template", "ra-signing-template", "ra-encryption-template"},
		"certsrv", "https://ca01.corp.example/certsrv/", chain, "", "static")
	if err != nil || !o.Microsoft.SSPI || o.Microsoft.Principal != "" {
		t.Errorf("%+v, %v, shown:\n%s", o.Microsoft, err, shown)
	}
}

// Answers that end, are no answers, or are interrupted, end it without a word
// written.
func TestNoAnswers(t *testing.T) {
	for name, answers := range map[string][]string{
		"that end":     {"scep.example"},
		"that are not": {"scep.example", "x", "x", "x", "x", "x", "x"},
		"too long":     {strings.Repeat("x", 10_000)},
		"of control":   {"\x1b[2J/", "\x1b[2J/", "\x1b[2J/", "\x1b[2J/", "\x1b[2J/"},
	} {
		o := firstrun.Options{}
		shown, err := interview(t, &o, nil, answers...)
		if err == nil || !strings.Contains(err.Error(), "nothing was written") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(shown, "\x1b") {
			t.Errorf("%s: an answer reaches the terminal raw", name)
		}
	}
	silent, w := io.Pipe() // nobody types
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	iv := firstrun.NewInterview(silent, io.Discard, func(string) bool { return false })
	if err := iv.Ask(ctx, &firstrun.Options{}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}

func TestNothingIsWrittenBeforeYes(t *testing.T) {
	for answer, want := range map[string]error{"no": firstrun.ErrNotConfirmed, "n": firstrun.ErrNotConfirmed, "": nil, "y": nil, "YES": nil} {
		o := static(t)
		p, err := firstrun.New(o)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		iv := firstrun.NewInterview(strings.NewReader(answer+"\n"), &out, nil)
		if err := iv.Confirm(t.Context(), p); !errors.Is(err, want) {
			t.Errorf("%q: %v", answer, err)
		}
		for _, says := range []string{o.Dir, "scep.example, 192.0.2.1", "p256", "one shared challenge"} {
			if !strings.Contains(out.String(), says) {
				t.Errorf("the summary lacks %q:\n%s", says, out.String())
			}
		}
		if _, err := os.Lstat(o.Dir); err == nil {
			t.Error("something was written")
		}
	}
}

// FuzzAsk: whatever is typed, it ends, and no control character comes back.
func FuzzAsk(f *testing.F) {
	f.Add("scep.example\n\n\ncontoso\napp\n\nhere\n")
	f.Add("a\n2\nh\\n\n\x00\n")
	f.Fuzz(func(t *testing.T, typed string) {
		var out bytes.Buffer
		o := firstrun.Options{CAKey: embedded.P256}
		err := firstrun.NewInterview(strings.NewReader(typed), &out, func(string) bool { return false }).Ask(t.Context(), &o)
		if err == nil && o.Open() {
			t.Errorf("all was answered, and something is open: %+v", o)
		}
		if strings.ContainsAny(out.String(), "\x00\x1b\x7f") {
			t.Error("a control character reaches the terminal")
		}
	})
}

// microsoftFiles are the certificates of a CA with its root, in no order, and
// a keytab.
func microsoftFiles(t *testing.T) (chain, keytab string) {
	t.Helper()
	dir := t.TempDir()
	chain, keytab = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "svc.keytab")
	root, issuing := corpCA(t)
	for path, text := range map[string][]byte{chain: append(pemOf(root), pemOf(issuing)...), keytab: {5, 2}} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return chain, keytab
}
