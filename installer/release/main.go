// Command release builds what users install: packages (deb, rpm, MSI), archives
// (tar.gz, zip), a bill of materials for each program, and checksums. The same
// commit gives the same bytes on every machine with the same Go: all times are
// the commit's, and nothing of the machine gets in. "make dist" calls it in the
// root of the repository.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	var r release
	var epoch int64
	var only string
	flag.StringVar(&r.describe, "version", "", "version as git describe has it")
	flag.Int64Var(&epoch, "epoch", 0, "time of every file, in seconds since 1970")
	flag.StringVar(&r.out, "out", "dist", "folder for the result; what it holds is removed first")
	flag.StringVar(&only, "only", "", "one system, as linux-amd64, for tests (default: all)")
	flag.StringVar(&r.signing.cert, "sign-cert", "", "PEM file with the certificate, and its chain, that signs what is for Windows (default: unsigned)")
	flag.StringVar(&r.signing.key, "sign-key", "", "its key: a PEM file, or a pkcs11: URI")
	flag.StringVar(&r.signing.timestamp, "sign-timestamp", "", "address of a time stamping authority (RFC 3161)")
	flag.StringVar(&r.signing.options, "sign-options", "", "further options of osslsigncode, as for a PKCS #11 token")
	flag.Parse()
	for _, t := range targets {
		if only == "" || only == t.String() {
			r.targets = append(r.targets, t)
		}
	}
	r.when = time.Unix(epoch, 0).UTC()
	r.version = packageVersion(r.describe, r.when)
	r.stage = filepath.Join(r.out, "stage")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := r.make(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is one version, and where it is put.
type release struct {
	describe string    // 1.2.3, as git has it
	version  string    // as packages have it
	when     time.Time // of the commit
	out      string
	stage    string // what goes into packages
	targets  []target
	signing  signing
}

// target is a system that there is a release for.
type target struct{ os, arch string }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}

func (t target) String() string { return t.os + "-" + t.arch }

// program is the name of the executable file.
func (t target) program() string {
	if t.os == "windows" {
		return "certconnector.exe"
	}
	return "certconnector"
}

func (r *release) make(ctx context.Context) error {
	if r.describe == "" || r.when.Unix() <= 0 || len(r.targets) == 0 {
		return errors.New("--version and --epoch are needed, and --only names a system that there is")
	}
	if (r.signing.cert == "") != (r.signing.key == "") {
		return errors.New("--sign-cert and --sign-key belong together")
	}
	if err := os.RemoveAll(r.out); err != nil {
		return fmt.Errorf("clearing the result's folder: %w", err)
	}
	// 1. The programs, and what they were made of.
	var used []module
	for _, t := range r.targets {
		if err := r.build(ctx, t); err != nil {
			return err
		}
		if t.os == "windows" {
			if err := r.sign(ctx, r.programFile(t)); err != nil {
				return err
			}
		}
		modules, err := r.writeSBOM(t)
		if err != nil {
			return err
		}
		used = append(used, modules...)
	}
	// 2. What goes beside them: pages, completions, licences.
	if err := r.writePages(ctx); err != nil {
		return err
	}
	if err := r.writeLicences(ctx, used); err != nil {
		return err
	}
	if err := r.writeChangelog(); err != nil {
		return err
	}
	// 3. Archives and packages.
	for _, t := range r.targets {
		if err := r.archive(t); err != nil {
			return err
		}
		if err := r.packages(ctx, t); err != nil {
			return err
		}
		if err := r.msi(ctx, t); err != nil {
			return err
		}
	}
	return r.writeSums()
}
