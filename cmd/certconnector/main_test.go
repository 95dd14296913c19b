package main

import (
	"net"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run this test binary as the program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"certconnector": main})
}

// TestScripts is what an operator types and sees.
func TestScripts(t *testing.T) {
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

// freePort is one that nobody listens on at this moment.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
