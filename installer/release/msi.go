package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// msiTools make the package for Windows; on Debian they are in wixl, msitools
// and faketime.
var msiTools = []string{"wixl", "msibuild", "faketime"}

// msiSources is the folder of what the package is described by.
const msiSources = "installer/windows"

// msiQueries mend what wixl cannot say.
var msiQueries = []string{
	// The file that CONFIG= names is copied only where none is, and neither it
	// (128, never overwrite) nor a removal (16, permanent) touches it again.
	"UPDATE `Component` SET `Condition` = 'CONFIG AND NOT CONFIGFOUND' WHERE `Component` = 'GivenConfig'",
	"UPDATE `Component` SET `Attributes` = 400 WHERE `Component` = 'GivenConfig'",
	// What is set on a command line reaches the installing service.
	"UPDATE `Property` SET `Value` = 'WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED;CONFIG;CONFIGFOUND;STARTSERVICE;SERVICEACCOUNT;ACCOUNTFOUND' WHERE `Property` = 'SecureCustomProperties'",
	// Windows Installer compares three numbers only, so a release replaces its
	// candidates by having the same: 512 counts the version itself in.
	"DELETE FROM `Upgrade` WHERE `ActionProperty` = 'WIX_UPGRADE_DETECTED'",
	"INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMax`, `Attributes`, `ActionProperty`) VALUES ('{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C11}', 'VERSION', 513, 'WIX_UPGRADE_DETECTED')",
}

// msi makes the package for Windows, if its tools are here.
func (r *release) msi(ctx context.Context, t target) error {
	if t.os != "windows" {
		return nil
	}
	for _, tool := range msiTools {
		if _, err := exec.LookPath(tool); err != nil {
			say("NO MSI WAS MADE:", tool, "is missing; on Debian: apt-get install --no-install-recommends wixl msitools faketime")
			return nil
		}
	}
	path := filepath.Join(r.out, "certconnector-"+r.version+"-"+t.String()+".msi")
	say("packing", filepath.Base(path))
	tables, err := filepath.Glob(filepath.Join(msiSources, "tables", "*.idt"))
	if err != nil || len(tables) == 0 {
		return fmt.Errorf("the package's tables are not there: %v", err)
	}
	stage, files, err := r.stageMSI(t)
	if err != nil {
		return err
	}
	descriptor := filepath.Join(msiSources, "certconnector.wxs")
	id, err := r.contentID(append(append(files, tables...), descriptor))
	if err != nil {
		return err
	}
	version, product, pack := msiVersion(r.describe, r.when), uuid(id, "product"), uuid(id, "package")
	// Both tools write the time of day into what they make.
	at := func(name string, args ...string) error {
		_, err := run(ctx, []string{"TZ=UTC"}, "faketime", append([]string{"-f", r.when.Format(time.DateTime), name}, args...)...)
		return err
	}
	if err := at("wixl", "-a", "x64", "-o", path, "-D", "Version="+version, "-D", "Product="+product, "-D", "Package="+pack,
		"-D", "Stage="+stage, descriptor); err != nil {
		return err
	}
	mend := []string{path}
	for _, table := range tables {
		mend = append(mend, "-i", table)
	}
	for _, query := range msiQueries {
		mend = append(mend, "-q", strings.ReplaceAll(query, "VERSION", version))
	}
	mend = append(mend, "-s", "certconnector "+r.describe, "certconnector maintainers", "x64;1033", "{"+pack+"}")
	if err := at("msibuild", mend...); err != nil {
		return err
	}
	return r.sign(ctx, path)
}

// stageMSI copies what goes into the package: its files are dated too.
func (r *release) stageMSI(t target) (folder string, files []string, err error) {
	folder = filepath.Join(r.stage, "msi")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", nil, fmt.Errorf("staging the MSI: %w", err)
	}
	for _, f := range []struct{ name, from string }{
		{"certconnector.exe", r.programFile(t)},
		{"LICENSE.txt", "LICENSE"},
		{"third-party.txt", filepath.Join(r.stage, "third-party.txt")},
		{"certconnector.full.yaml", "configs/certconnector.full.yaml"},
		{"certconnector.ps1", filepath.Join(r.stage, "completions", "certconnector.ps1")},
	} {
		path := filepath.Join(folder, f.name)
		b, err := os.ReadFile(f.from)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err == nil {
			err = os.Chtimes(path, r.when, r.when)
		}
		if err != nil {
			return "", nil, fmt.Errorf("staging the MSI: %w", err)
		}
		files = append(files, path)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		return "", nil, fmt.Errorf("looking for the working folder: %w", err)
	}
	if folder, err = filepath.Abs(folder); err == nil {
		folder, err = filepath.Rel(here, folder) // wixl wants it so
	}
	return folder, files, err
}

// contentID tells builds apart: two packages of one identity must have the
// same content, or Windows Installer mixes them up.
func (r *release) contentID(files []string) ([]byte, error) {
	h := sha256.New()
	h.Write([]byte(r.describe + strings.Join(msiQueries, "")))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading what goes into the MSI: %w", err)
		}
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	return h.Sum(nil), nil
}

// uuid makes a name for a use of a content (RFC 9562, version 8: our own way).
func uuid(id []byte, use string) string {
	b := sha256.Sum256(append([]byte(use), id...))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}

// msiVersion is what Windows Installer compares: three numbers. What was built
// without a tag is older than every release, and ordered by its day.
func msiVersion(describe string, when time.Time) string {
	if m := tagged.FindStringSubmatch(strings.TrimSuffix(describe, "-dirty")); m != nil {
		return m[1]
	}
	days := int(when.Sub(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) / (24 * time.Hour))
	return "0.0." + strconv.Itoa(max(days, 1))
}
