package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// nfpmTool makes the packages. Its modules are not ours: it is a program that is
// run, not a library.
const nfpmTool = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.0"

// run runs a command with further variables, and shows what it says when it
// fails.
func run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	c.WaitDelay = 10 * time.Second
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s %q: %w\n%s%s", name, args, err, out.Bytes(), problems.Bytes())
	}
	return out.Bytes(), nil
}

// programFile is where the program of a target is built.
func (r *release) programFile(t target) string {
	return filepath.Join(r.stage, t.String(), t.program())
}

func (r *release) build(ctx context.Context, t target) error {
	say("building", t.String())
	_, err := run(ctx, []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0"},
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version="+r.describe,
		"-o", r.programFile(t), "./cmd/certconnector")
	return err
}

// writePages has the commands themselves write man pages and completions.
func (r *release) writePages(ctx context.Context) error {
	_, err := run(ctx, []string{"CGO_ENABLED=0"}, "go", "run", "./cmd/certconnector", "generate",
		"--date", r.when.Format(time.DateOnly), r.stage)
	if err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(r.stage, "man", "*.8"))
	if err != nil || len(pages) == 0 {
		return fmt.Errorf("no man pages were written: %v", err)
	}
	for _, p := range pages {
		b, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("reading a man page: %w", err)
		}
		if err := writeGzip(p+".gz", b); err != nil {
			return err
		}
	}
	return nil
}

// writeChangelog is what Debian's policy wants; the changes are in git.
func (r *release) writeChangelog() error {
	text := fmt.Sprintf("certconnector (%s-1) unstable; urgency=medium\n\n  * Built from %s.\n\n"+
		" -- certconnector maintainers <certconnector@users.noreply.github.com>  %s\n",
		r.version, r.describe, r.when.Format(time.RFC1123Z))
	return writeGzip(filepath.Join(r.stage, "changelog.gz"), []byte(text))
}

// packages makes the deb and the rpm.
func (r *release) packages(ctx context.Context, t target) error {
	if t.os != "linux" {
		return nil
	}
	for _, packager := range []string{"deb", "rpm"} {
		say("packing", packager, t.String())
		_, err := run(ctx, []string{
			"ARCH=" + t.arch, "VERSION=" + r.version, "STAGE=" + r.stage,
			"SOURCE_DATE_EPOCH=" + strconv.FormatInt(r.when.Unix(), 10),
		}, "go", "run", nfpmTool, "package", "--config", "installer/linux/nfpm.yaml", "--packager", packager, "--target", r.out)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeGzip compresses without a name or a time.
func writeGzip(path string, b []byte) error {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if _, err := io.Copy(z, bytes.NewReader(b)); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := os.WriteFile(path, packed.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing a compressed file: %w", err)
	}
	return nil
}

func say(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) } // nobody is left to tell
