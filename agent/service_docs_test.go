package agent_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/agent"
)

// The page tells of every setting what a reload does with it.
func TestReloadTableIsComplete(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Reload\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var restart, told []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z_.`, ]+`) \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("[a-z_.]+").FindAllString(row[1], -1) {
			told = append(told, name)
			if strings.HasPrefix(row[2], "**needs a restart**") {
				restart = append(restart, name)
			}
		}
	}
	if want := slices.Sorted(slices.Values(agent.RestartSettings())); !slices.Equal(slices.Sorted(slices.Values(restart)), want) {
		t.Errorf("need a restart according to the page: %q, according to the code: %q", restart, want)
	}
	config := reflect.TypeFor[agent.Config]()
	for i := range config.NumField() {
		key := config.Field(i).Tag.Get("yaml")
		if !slices.ContainsFunc(told, func(name string) bool { return name == key || strings.HasPrefix(name, key+".") }) {
			t.Errorf("the page does not say what a reload does with %s", key)
		}
	}
}

// A restart setting that no configuration has would panic at the first reload.
func TestChangesNamesEverySetting(t *testing.T) {
	before, after := agent.Defaults(), agent.Defaults()
	if got := agent.Changes(before, after); got != nil {
		t.Errorf("nothing changed: %q", got)
	}
	before.Endpoints = []agent.Endpoint{{Name: "a"}, {Name: "b", Policy: agent.Policy{Static: &agent.StaticPolicy{Challenge: agent.SecretRef{Env: "ONE"}}}}, {Name: "c"}}
	after.Endpoints = []agent.Endpoint{{Name: "b", Policy: agent.Policy{Static: &agent.StaticPolicy{Challenge: agent.SecretRef{Env: "SECRET"}}}}, {Name: "a", Allow: agent.Allow{SAN: []string{"dns:x"}}}, {Name: "d"}}
	after.Journal.SQLite = &agent.SQLite{Path: "x"}
	after.Listeners = []agent.Listener{{Name: "l", TLS: &agent.ListenerTLS{}}}
	after.ShutdownGrace *= 2
	got := agent.Changes(before, after)
	want := []string{
		"listeners[0] (added)", "endpoints[2] (removed)", "endpoints[0].policy.static.challenge.env", "endpoints[1].allow.san", "endpoints[2] (added)",
		"endpoints (order)", "journal.sqlite.path", "shutdown_grace",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	before.Listeners = []agent.Listener{{Name: "l"}}
	if got := agent.Changes(before, after); !slices.Contains(got, "listeners[0].tls (added)") {
		t.Errorf("got %q", got)
	}
	if got := agent.Changes(after, before); !slices.Contains(got, "listeners[0].tls (removed)") {
		t.Errorf("got %q", got)
	}
}
