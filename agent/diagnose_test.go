package agent_test

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
)

// checked is a Microsoft CA with a road of each kind to it, and a configuration
// with an endpoint.
type checked struct {
	ca     *adcstest.CA
	config agent.Config
}

// checkable starts a CA for tests. The roads sign in as an account.
func checkable(t *testing.T, account string, o adcstest.Options) *checked {
	t.Helper()
	authority, err := adcstest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	rpc, err := authority.ServeRPC(adcstest.RPCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rpc.Close() })
	web, err := authority.ServeCertsrv(adcstest.WebOptions{WebAuth: adcstest.WebAuth{Basic: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { web.Close() })
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	chain := write("chain.pem", slices.Concat(block(authority.Certificate().Raw), block(authority.Root().Raw)))
	password := &agent.Password{User: `CORP\` + account, Password: agent.SecretRef{File: write("password", []byte(adcstest.DefaultPassword))}}

	var dcom, pages agent.CA
	for _, c := range []*agent.CA{&dcom, &pages} {
		c.SetDefaults()
		c.Chain = chain
	}
	dcom.Name, dcom.ADCS = "dcom", &agent.ADCS{
		Config: authority.Config(), Issue: []string{"dcom", "icpr"}, Revoke: "csra", Find: "csra", NTLM: password,
		Address: rpc.Address(), EndpointMapperPort: rpc.EndpointMapperPort(), SubmitWithin: time.Minute,
	}
	pages.Name, pages.Certsrv = "pages", &agent.Certsrv{
		URL: web.URL, Basic: password, CAFile: write("web.pem", block(web.Certificate.Raw)), SubmitWithin: time.Minute,
	}
	var e agent.Endpoint
	e.SetDefaults()
	e.Name, e.CA, e.Templates.General = "phones", "corp", "IntuneDevice"
	return &checked{ca: authority, config: agent.Config{
		Endpoints: []agent.Endpoint{e}, CAs: []agent.CA{dcom, pages, {Name: "corp", Roads: []string{"dcom", "pages"}, Chain: chain}},
	}}
}

func (c *checked) check(t *testing.T, names ...string) []ca.Finding {
	t.Helper()
	found, err := agent.CheckCAs(t.Context(), c.config, names, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.CA == "" || f.Level == ca.Failure && f.Fix == "" || strings.Contains(f.Text+f.Fix, adcstest.DefaultPassword) {
			t.Errorf("finding %+v", f)
		}
	}
	return found
}

// levelOf is the highest level of an ID at a CA; -1: there is none.
func levelOf(found []ca.Finding, name, id string) ca.Level {
	level := ca.Level(-1)
	for _, f := range found {
		if f.CA == name && f.ID == id {
			level = max(level, f.Level)
		}
	}
	return level
}

func TestCheckCAsInOrder(t *testing.T) {
	c := checkable(t, "svc", adcstest.Options{})
	found := c.check(t)
	for _, name := range []string{"dcom", "pages"} {
		for _, id := range []string{ca.CheckSignIn, ca.CheckChain, ca.CheckTemplatePublished, ca.CheckCRL} {
			if got := levelOf(found, name, id); got != ca.OK {
				t.Errorf("%s %s is %d: %v", name, id, got, found)
			}
		}
	}
	if i := slices.IndexFunc(found, func(f ca.Finding) bool { return f.Level > ca.Note }); i >= 0 {
		t.Errorf("%+v", found[i])
	}
	if len(c.ca.Rows()) != 0 {
		t.Error("the check left a row in the CA's database")
	}
}

// A week is the life of the CA's list, and it made none for eight days.
func TestCheckCAsExpiredList(t *testing.T) {
	c := checkable(t, "svc", adcstest.Options{Clock: func() time.Time { return time.Now().AddDate(0, 0, -8) }})
	found := c.check(t)
	for _, name := range []string{"dcom", "pages"} {
		if got := levelOf(found, name, ca.CheckCRL); got != ca.Failure {
			t.Errorf("%s: %s is %d", name, ca.CheckCRL, got)
		}
	}
}

func TestCheckCAsWithoutRights(t *testing.T) {
	found := checkable(t, "low", adcstest.Options{}).check(t)
	for _, name := range []string{"dcom", "pages"} {
		if got := levelOf(found, name, ca.CheckEnroll); got != ca.Failure {
			t.Errorf("%s: %s is %d", name, ca.CheckEnroll, got)
		}
	}
}

// A name chooses a CA and its roads; without a road that revokes there is a
// warning at the CA that endpoints name.
func TestCheckCAsByName(t *testing.T) {
	c := checkable(t, "svc", adcstest.Options{})
	found := c.check(t, "pages")
	if levelOf(found, "pages", ca.CheckReach) != ca.OK || slices.ContainsFunc(found, func(f ca.Finding) bool { return f.CA != "pages" }) {
		t.Errorf("pages: %v", found)
	}
	c.config.CAs[2].Roads = []string{"pages"}
	found = c.check(t, "corp")
	if levelOf(found, "pages", ca.CheckTemplatePublished) != ca.OK || levelOf(found, "corp", ca.CheckRoadRevoke) != ca.Warning || levelOf(found, "dcom", ca.CheckReach) != -1 {
		t.Errorf("corp: %v", found)
	}
	if _, err := agent.CheckCAs(t.Context(), c.config, []string{"nowhere"}, nil); err == nil || !strings.Contains(err.Error(), "dcom, pages, corp") {
		t.Errorf("unknown name: %v", err)
	}
}

// Roads to two CAs would have a certificate sought at one and revoked at the other.
func TestCheckCAsRoadsToTwoCAs(t *testing.T) {
	c, other := checkable(t, "svc", adcstest.Options{}), checkable(t, "svc", adcstest.Options{Name: "Other CA"})
	if got := levelOf(c.check(t, "corp"), "corp", ca.CheckChain); got != ca.OK {
		t.Errorf("one CA: %d", got)
	}
	c.config.CAs[1] = other.config.CAs[1]
	if got := levelOf(c.check(t, "corp"), "corp", ca.CheckChain); got != ca.Failure {
		t.Errorf("two CAs: %d", got)
	}
	c.config.CAs[2].Chain = ""
	if got := levelOf(c.check(t, "corp"), "corp", ca.CheckChain); got != ca.Failure {
		t.Errorf("two CAs, and no chain of their own: %d", got)
	}
}

// What cannot be built is a finding, and does not hide the others.
func TestCheckCAsBadFiles(t *testing.T) {
	c := checkable(t, "svc", adcstest.Options{})
	c.config.CAs[0].Chain = filepath.Join(t.TempDir(), "nowhere.pem")
	found := c.check(t)
	if levelOf(found, "dcom", ca.CheckConfig) != ca.Failure || levelOf(found, "pages", ca.CheckSignIn) != ca.OK {
		t.Errorf("%v", found)
	}
}
