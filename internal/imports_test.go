package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/certconnector/certconnector/"

// levels is the one direction of imports: a package imports packages of lower
// levels only. The longest prefix counts.
var levels = map[string]int{
	"cmd":                       5,
	"agent":                     4,
	"installer":                 4,
	"installer/linux":           3,
	"installer/steps":           3,
	"agent/status":              3,
	"agent/doctor":              3,
	"agent/reconcile":           2,
	"agent/control":             3,
	"agent/enroll":              2,
	"agent/jobs":                2,
	"agent/outbox":              2,
	"agent/identity":            2,
	"crp":                       2,
	"agent/journal/journaltest": 2,
	"agent/jobs/jobqueuetest":   2,
	"ca/catest":                 2,
	"ca/adcstest":               2,
	"policymodule/moduletest":   2,
	"intune/intunetest":         2,
	"agent/journal/":            1,
	"agent/jobs/":               1,
	"agent/identity/":           1,
	"scep/scephttp":             1,
	"scep/scepclient":           1,
	"policymodule/":             1,
	"crp/":                      1,
	"intune":                    1,
	"ca/":                       1,
	"scep":                      0,
	"ca":                        0,
	"policymodule":              0,
	"agent/journal":             0,
	"internal":                  -1,
}

func level(t *testing.T, pkg string) int {
	for p := pkg; p != "."; p = filepath.Dir(p) {
		if l, ok := levels[p]; ok {
			return l
		}
		if l, ok := levels[filepath.Dir(p)+"/"]; ok {
			return l
		}
	}
	t.Fatalf("package %s has no level: put it into ARCHITECTURE.md and into this table", pkg)
	return 0
}

// neighbours meet in agent/enroll and agent/jobs, never in each other.
var neighbours = []string{"scep", "intune", "ca"}

func neighbour(pkg string) string {
	for _, n := range neighbours {
		if pkg == n || strings.HasPrefix(pkg, n+"/") {
			return n
		}
	}
	return ""
}

// importers names the only package that may import a third-party module (two
// where one is the neighbour that stands in for the real one).
// Test files may import what they like.
var importers = map[string]string{
	"github.com/kardianos/service":                               "internal/osservice",
	"github.com/google/go-tpm":                                   "internal/keys",
	"github.com/ThalesGroup/crypto11":                            "internal/keys",
	"github.com/miekg/pkcs11":                                    "internal/keys",
	"github.com/Azure/azure-sdk-for-go":                          "intune",
	"github.com/prometheus/client_golang":                        "internal/metrics",
	"github.com/smallstep/pkcs7":                                 "internal/cms",
	"github.com/spf13/viper":                                     "internal/configfile",
	"github.com/oiweiwei/go-msrpc":                               "ca/adcs ca/adcstest",
	"github.com/oiweiwei/gokrb5.fork":                            "internal/negotiate ca/adcs ca/adcstest",
	"github.com/Azure/go-ntlmssp":                                "internal/negotiate",
	"software.sslmate.com/src/go-pkcs12":                         "internal/pfx",
	"modernc.org/sqlite":                                         "agent/journal/sqlite",
	"github.com/micromdm/scep":                                   "tests only",
	"github.com/zmap/zlint":                                      "tests only",
	"github.com/getkin/kin-openapi":                              "tests only",
	"github.com/rogpeppe/go-internal":                            "tests only",
	"github.com/AzureAD/microsoft-authentication-library-for-go": "tests only",
	"go.uber.org/goleak":                                         "internal/leaktest",
}

func TestImportsGoDown(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir // git itself changes it at any time
		}
		if err == nil && d.IsDir() && path != ".." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own: what a test drives
			}
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		rel, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		// Programs that end-to-end tests build are tests too.
		isTest := strings.HasSuffix(path, "_test.go") || strings.HasPrefix(filepath.ToSlash(rel), "cmd/certlab/e2e/")
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, path, filepath.ToSlash(rel), imported, isTest)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Fatalf("only %d Go files were read: is the walk still over the whole module?", files)
	}
}

func checkImport(t *testing.T, path, from, imported string, isTest bool) {
	to, ours := strings.CutPrefix(imported, module)
	if !ours {
		for prefix, only := range importers {
			if !isTest && (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && !slices.Contains(strings.Fields(only), from) {
				t.Errorf("%s imports %s, which is for %s", path, imported, only)
			}
		}
		return
	}
	if isTest { // tests may drive their package with whatever stands above it
		return
	}
	lf, lt := level(t, from), level(t, to)
	if lt > lf || (lt == lf && lf >= 0 && lf < 5) {
		t.Errorf("%s (level %d) imports %s (level %d): imports go down only", path, lf, to, lt)
	}
	if a, b := neighbour(from), neighbour(to); a != "" && b != "" && a != b {
		t.Errorf("%s imports %s: scep, intune and ca know nothing of each other", path, to)
	}
}
