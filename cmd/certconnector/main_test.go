package main

import (
	"net"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certconnector/certconnector/internal/freeport"
)

// The scripts run this test binary as the program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"certconnector": main})
}

// TestScripts is what an operator types and sees.
func TestScripts(t *testing.T) {
	ordinaryUmask(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PORT", freePort(t))
			e.Values[cloudKey{}] = &cloudOfScript{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"http":     fetch,
			"waitport": waitPort,
			"hangup":   hangUp,
			"hidden":   hidden,
			"enroll":   enroll,
			"edit":     edit,
			"poll":     poll,
			"cloud":    cloud,
		},
	})
}

// freePort is one on loopback that nobody else gets before the test ends: the
// scripts run side by side, and beside tests of other packages.
func freePort(t testing.TB) string {
	_, port, err := net.SplitHostPort(freeport.ForTest(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
