package agent_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
)

// A command opens one CA by the roads of the configuration, beside the service:
// requests by the first road, revocation by whichever has it. The chain file
// may hold former certificates of the CA behind the root.
func TestOpenBridge(t *testing.T) {
	core, err := adcstest.New(adcstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rpc, err := core.ServeRPC(adcstest.RPCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rpc.Close() })
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	former, err := adcstest.New(adcstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, cert := range []*x509.Certificate{core.Certificate(), core.Root(), former.Certificate()} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	var bridge agent.ADCS
	bridge.SetDefaults()
	bridge.Config, bridge.Address, bridge.EndpointMapperPort = core.Config(), "127.0.0.1", rpc.EndpointMapperPort()
	bridge.NTLM = &agent.Password{User: `CORP\svc`, Password: agent.SecretRef{File: file("password", []byte(adcstest.DefaultPassword))}}
	issuing, revoking := bridge, bridge
	issuing.Find, revoking.Revoke = "", "csra"
	cfg := agent.Defaults()
	path := file("chain.pem", chain)
	cfg.CAs = []agent.CA{
		{Name: "issuing", Roads: []string{"web", "office"}, Concurrent: 2, Queue: 2},
		{Name: "web", ADCS: &issuing, Chain: path, Concurrent: 2, Queue: 2},
		{Name: "office", ADCS: &revoking, Chain: path, Concurrent: 2, Queue: 2},
	}
	opened, done, err := agent.OpenBridge(cfg, "issuing", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := opened.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: "IntuneDevice"})
	if err != nil {
		t.Fatal(err)
	}
	revoker, ok := ca.Ability[ca.Revoker](opened)
	if !ok {
		t.Fatal("no road revokes")
	}
	if err := revoker.Revoke(t.Context(), issued.Certificate.SerialNumber, ca.Superseded); err != nil {
		t.Error(err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, _, err := agent.OpenBridge(cfg, "elsewhere", zap.NewNop()); err == nil {
		t.Error("a CA that is not configured was opened")
	}
}
