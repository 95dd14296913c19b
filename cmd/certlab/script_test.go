package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certconnector/certconnector/cmd/certlab/labtest"
)

// The scripts run this test binary as the program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"certlab": main})
}

// TestScripts is what somebody in the laboratory types and sees. The scripts
// find a connector with one shared challenge (STATIC_URL, CHALLENGE_FILE) and
// one that asks a simulated cloud and holds exchanges for a moment only
// (INTUNE_URL, CONTROL).
func TestScripts(t *testing.T) {
	static, asks := labtest.Static(t), labtest.Intune(t, 300*time.Millisecond)
	challenge := static.Challenge(t)
	// Scripts run side by side; one breaks the cloud for others.
	var cloud sync.Mutex
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("STATIC_URL", static.URL)
			e.Setenv("CHALLENGE", challenge)
			e.Setenv("CHALLENGE_FILE", static.ChallengeFile)
			e.Setenv("INTUNE_URL", asks.URL)
			e.Setenv("CONTROL", asks.Control)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"waitfile": waitFile,
			"alone": func(ts *testscript.TestScript, _ bool, _ []string) {
				cloud.Lock()
				ts.Defer(cloud.Unlock)
			},
			"breakcloud": func(ts *testscript.TestScript, _ bool, _ []string) {
				labtest.Break(t, asks.Control)
				ts.Defer(func() { labtest.Heal(t, asks.Control) })
			},
		},
	})
}

// exits is "exits CODE COMMAND…": it runs a command and wants its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s did not run: %v", args[1], err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitFile is "waitfile PATH": it waits until the file is there.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile PATH")
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s is not there", args[0])
}
