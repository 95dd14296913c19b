package main

import (
	"regexp"
	"testing"
	"time"
)

func TestMSIVersion(t *testing.T) {
	for _, c := range []struct{ what, describe, want string }{
		{"a release", "v1.2.3", "1.2.3"},
		{"a candidate has its release's numbers, and gives way to it", "v1.2.3-rc.1", "1.2.3"},
		{"a commit after a release", "v1.2.3-5-g95db447", "1.2.3"},
		{"a tree that was edited", "v1.2.3-dirty", "1.2.3"},
		{"no tag: before all releases, by day", "95db447", "0.0.2222"},
	} {
		if got := msiVersion(c.describe, when); got != c.want {
			t.Errorf("%s: %q", c.what, got)
		}
	}
	if got := msiVersion("95db447", time.Unix(1, 0)); got != "0.0.1" {
		t.Errorf("before the count begins: %q", got)
	}
}

func TestIdentitiesFollowTheContent(t *testing.T) {
	form := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`)
	seen := map[string]bool{}
	for _, r := range []release{{describe: "v1.0.0"}, {describe: "v1.0.1"}} {
		for _, files := range [][]string{{"msi.go"}, {"msi.go", "main.go"}} {
			id, err := r.contentID(files)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range []string{"product", "package"} {
				u := uuid(id, use)
				if seen[u] || !form.MatchString(u) || u != uuid(id, use) {
					t.Errorf("%s of %v in %s is %s", use, files, r.describe, u)
				}
				seen[u] = true
			}
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d identities", len(seen))
	}
}
