//go:build e2ewindows

package e2e

import (
	"regexp"
	"testing"

	"github.com/certconnector/certconnector/installer/windows/winetest"
)

// passed is a line of "go test" for a package.
var passed = regexp.MustCompile(`(?m)^ok  \t`)

// TestUnitTests runs the unit tests of the code that is for Windows there, or
// that leans on what files do there.
func TestUnitTests(t *testing.T) {
	w := winetest.New(t)
	for _, c := range []struct {
		name     string
		packages []string
		flags    []string
	}{
		{"files, keys, services", []string{
			"./internal/certfiles", "./internal/configfile", "./internal/durable", "./internal/keys", "./internal/logging",
			"./internal/osservice", "./internal/secret", "./installer/firstrun", "./installer/service", "./installer/steps",
		}, nil},
		// The disks that lose what was not synced are made of memory on every
		// system alike.
		{"the journal, on the system's disk", []string{"./agent/journal/sqlite"}, []string{"-skip", "TestContract/on_a_disk|UnderLoad"}},
		{"signing in by SSPI", []string{"./internal/negotiate"}, []string{"-run", "SSPI"}},
		// Wine has no unix sockets.
		{"the control socket where there is none", []string{"./agent/control"}, []string{"-run", "TestWithoutSockets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer stamp(t, "go test")()
			args := append([]string{"-count", "1", "-short", "-timeout", "8m"}, c.flags...)
			out, err := w.GoTest(t, repository, append(args, c.packages...)...)
			if n := len(passed.FindAllString(out, -1)); err != nil || n != len(c.packages) {
				t.Errorf("%d of %d packages passed, %v\n%s", n, len(c.packages), err, out)
			}
		})
	}
}
