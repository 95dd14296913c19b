package main

import (
	"slices"
	"testing"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/service"
)

// What no flag names stays as the service has it. (The configuration of one on
// Linux is in testdata/script/service-again.txtar.)
func TestAServiceInstalledAgainKeepsItsAccount(t *testing.T) {
	none := service.Status{}
	there := service.Status{Installed: true, Config: "/srv/cc.yaml", Account: `CONTOSO\connector$`}
	for _, row := range []struct {
		name            string
		st              service.Status
		given           []string
		config, account string
	}{
		{"nothing is installed", none, nil, agent.DefaultConfigPath(), service.VirtualAccount},
		{"no flag", there, nil, there.Config, there.Account},
		{"another account", there, []string{"account"}, there.Config, service.VirtualAccount},
		{"another configuration", there, []string{"config"}, agent.DefaultConfigPath(), there.Account},
	} {
		p := &program{config: agent.DefaultConfigPath()}
		f := serviceFlags{given: func(flag string) bool { return slices.Contains(row.given, flag) }}
		if f.given("account") {
			f.o.Account = row.account
		}
		p.keep(row.st, &f)
		if err := p.complete(&f.o); err != nil || f.o.Config != row.config || f.o.Account != row.account {
			t.Errorf("%s: %q as %q, %v", row.name, f.o.Config, f.o.Account, err)
		}
	}
}
