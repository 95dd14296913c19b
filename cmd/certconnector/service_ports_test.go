package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPortsThatNeedHelp(t *testing.T) {
	for _, row := range []struct {
		address        string
		linux, windows []string
	}{
		{":443", []string{"443"}, []string{"443"}},
		{"0.0.0.0:443", []string{"0.0.0.0:443"}, []string{"443"}},
		{"[::]:443", []string{"[::]:443"}, []string{"443"}},
		{"192.0.2.1:443", []string{"192.0.2.1:443"}, []string{"443"}},
		{"127.0.0.1:80", []string{"127.0.0.1:80"}, []string{"80"}},
		{":8443", nil, []string{"8443"}},
		{"127.0.0.1:8080", nil, nil},
	} {
		file := filepath.Join(t.TempDir(), "cc.yaml")
		if err := os.WriteFile(file, []byte("listeners:\n  - address: \""+row.address+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := servicePorts(file, false); !slices.Equal(got, row.linux) {
			t.Errorf("%s on Linux: %q", row.address, got)
		}
		if got := servicePorts(file, true); !slices.Equal(got, row.windows) {
			t.Errorf("%s on Windows: %q", row.address, got)
		}
	}
	if got := servicePorts(filepath.Join(t.TempDir(), "none"), false); !slices.Equal(got, []string{"443"}) {
		t.Errorf("without a configuration: %q", got)
	}
}
