package entra_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestKeyOfATwinIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.created()
	other := newWorld(t)
	other.created()
	w.clock = w.clock.Add(241 * day)
	w.pass(time.Hour, time.Minute)
	prefix := strings.TrimSuffix(w.cloud.keys[1].DisplayName, "0002 "+host)
	w.cloud.upload(other.store.Certificates()[0].Certificate, prefix+"0007 "+host)
	w.cloud.upload(other.store.Certificates()[0].Certificate, "of another application")
	w.pass(10*day, time.Hour)
	if len(w.cloud.keys) != 3 {
		t.Fatalf("%d keys are left, want the new one and two that are not ours", len(w.cloud.keys))
	}
	var named int
	for _, item := range w.store.Items() {
		if strings.Contains(item.Problem, "does not know") {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d keys are named as unknown, want the one with this folder's name", named)
	}
}

// A copy of the host counts on under the same ID, and Graph shows no
// thumbprints: what the copy has registered is neither taken for ours nor removed.
func TestKeyOfACloneIsLeftAlone(t *testing.T) {
	for name, lost := range map[string]int{"a key whose ID is recorded": 0, "a key whose ID was lost": 1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.created()
			clone := newWorld(t)
			clone.created()
			w.cloud.mute, w.cloud.loseAdd = true, lost
			id, err := os.ReadFile(filepath.Join(w.cfg.Dir, "id"))
			if err != nil {
				t.Fatal(err)
			}
			theirs := "certconnector " + strings.TrimSpace(string(id)) + " 0002 clone-" + host
			w.cloud.upload(clone.store.Certificates()[0].Certificate, theirs)
			w.clock = w.clock.Add(241 * day)
			w.pass(10*day, time.Hour)
			if s := w.states(); s != "2 working" || w.cloud.added != 1 {
				t.Fatalf("%s, %d keys added", s, w.cloud.added)
			}
			w.clock = w.clock.Add(241 * day)
			w.pass(10*day, time.Hour)
			if s := w.states(); s != "3 working" || w.cloud.added != 2 || w.cloud.removed != 1 {
				t.Fatalf("%s, %d keys added, %d removed", s, w.cloud.added, w.cloud.removed)
			}
			if !slices.ContainsFunc(w.cloud.keys, func(k key) bool { return k.DisplayName == theirs }) {
				t.Error("the key of the copy is gone")
			}
		})
	}
}
