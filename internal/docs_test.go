package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	makes   = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	testOf  = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*\b`)
	tests   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	rule    = regexp.MustCompile(`policymodule\.Reason = "([^"]+)"|Rule: +"([^"]+)"|: +\{"(intune_[a-z_]+)"`)
	crash   = regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`) // of a heading, in its anchor
)

// pages returns every page of documentation by its path, with a base of "..".
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages were found: is the walk still over the whole repository?", len(all))
	}
	return all
}

// anchors are the fragments that a page's headings can be linked by.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		text := dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		found[strings.ReplaceAll(text, " ", "-")] = true
	}
	return found
}

func TestRelativeLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	links := 0
	for path, page := range all {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			to := m[1]
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			links++
			file, fragment, _ := strings.Cut(to, "#")
			at := path
			if file != "" {
				at = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("%s links to %s, which is not there", path, to)
			} else if other, isPage := all[at]; fragment != "" && isPage && !anchors(other)[fragment] {
				t.Errorf("%s links to %s, but that page has no such heading", path, to)
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found: does the pattern still fit?", links)
	}
}

func TestPagesNameTargetsOfTheMakefile(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(string(b), -1) {
		targets[m[1]] = true
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		page := pages(t)[filepath.Join("..", name)]
		named := 0
		for _, code := range inCode(page) {
			for _, m := range makes.FindAllStringSubmatch(code, -1) {
				named++
				if !targets[m[1]] {
					t.Errorf("%s says make %s, which the Makefile does not have", name, m[1])
				}
			}
		}
		if named == 0 {
			t.Errorf("%s names no target", name)
		}
	}
}

// sources calls do with the path and text of every Go file.
func sources(t *testing.T, do func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir // git itself changes it at any time
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		do(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPagesNameTestsThatExist(t *testing.T) {
	exist := map[string]bool{}
	sources(t, func(path, text string) {
		for _, m := range tests.FindAllStringSubmatch(text, -1) {
			exist[m[1]] = strings.HasSuffix(path, "_test.go")
		}
	})
	named := 0
	for path, page := range pages(t) {
		for _, code := range inCode(page) {
			for _, name := range testOf.FindAllString(code, -1) {
				named++
				if !exist[name] {
					t.Errorf("%s names %s, which is no test", path, name)
				}
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d tests are named: does the pattern still fit?", named)
	}
}

// TestRulesAndCrashesAreDocumented finds names that an operator meets in the
// log, or a developer in a build with failpoints, and that no page explains.
func TestRulesAndCrashesAreDocumented(t *testing.T) {
	var all strings.Builder
	for _, page := range pages(t) {
		all.WriteString(page)
	}
	documented, rules, crashes := all.String(), 0, 0
	sources(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "certlab") || strings.Contains(path, "moduletest") || strings.Contains(path, "journaltest") {
			return
		}
		for _, m := range rule.FindAllStringSubmatch(text, -1) {
			rules++
			if name := m[1] + m[2] + m[3]; !strings.Contains(documented, name) {
				t.Errorf("%s has the rule %s, which no page explains", path, name)
			}
		}
		for _, m := range crash.FindAllStringSubmatch(text, -1) {
			crashes++
			if !strings.Contains(documented, m[1]) {
				t.Errorf("%s has the failpoint %s, which no page names", path, m[1])
			}
		}
	})
	if rules < 30 || crashes < 5 {
		t.Errorf("only %d rules and %d failpoints were found: do the patterns still fit?", rules, crashes)
	}
}

// inCode returns what stands in code blocks and between backquotes.
func inCode(page string) []string {
	code := fence.FindAllString(page, -1)
	for i, part := range strings.Split(fence.ReplaceAllString(page, ""), "`") {
		if i%2 == 1 {
			code = append(code, part)
		}
	}
	return code
}
