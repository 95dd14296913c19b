//go:build e2ewindows

// Package e2e installs the MSI under Wine and runs the service there: from
// msiexec to a device's certificate, through stops, a reboot, an upgrade and a
// removal; and it runs the unit tests of the code that is for Windows.
// "make e2e-windows" runs it. What Wine cannot show is in docs/compatibility.md.
package e2e

import (
	"archive/zip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/windows/winetest"
)

// repository is the root of the source tree.
const repository = "../../.."

// host runs a command of this host in the repository.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = repository
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// built makes what a release holds for Windows.
func built(t *testing.T, version string, flags ...string) (dir string) {
	t.Helper()
	for tool, debian := range map[string]string{"wixl": "wixl", "msibuild": "msitools", "msiinfo": "msitools", "faketime": "faketime"} {
		winetest.Need(t, tool, debian)
	}
	dir = filepath.Join(t.TempDir(), version)
	host(t, "go", append([]string{"run", "./installer/release", "--version", version, "--epoch", "1767225600",
		"--only", "windows-amd64", "--out", dir}, flags...)...)
	return dir
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

// sameBytes compares two builds of a version.
func sameBytes(t *testing.T, first, second string) {
	var sums [2]string
	for i, dir := range []string{first, second} {
		b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(b)
	}
	if sums[0] != sums[1] || strings.Count(sums[0], "\n") != 3 {
		t.Errorf("two builds differ, or lack something:\n%s\n%s", sums[0], sums[1])
	}
}

// rows are those of a table of a package, as msiinfo writes them.
func rows(t *testing.T, msi, table string) []string {
	t.Helper()
	out := strings.ReplaceAll(host(t, "msiinfo", "export", msi, table), "\r", "")
	return strings.Split(strings.TrimRight(out, "\n"), "\n")[3:]
}

// packageTables looks for what wixl leaves out or would have done otherwise.
func packageTables(t *testing.T, msi, older string) {
	const sid = ";;;S-1-5-80-3570544647-3942857806-880177727-3352727600-860420670)"
	for table, want := range map[string][]string{
		"ServiceInstall": {"Service\tcertconnector\tCertificate connector\t16\t2\t1\t\t\t[SERVICEACCOUNT]\t\trun --config \"[CONFIGDIR]certconnector.yaml\"\tProgram\tIssues certificates to devices by SCEP and Microsoft Intune."},
		// Started at installation; stopped and deleted at removal.
		"ServiceControl": {"Control\tcertconnector\t163\t\t1\tProgram"},
		// SERVICE_CONFIG_DELAYED_AUTO_START_INFO, …_FAILURE_ACTIONS_FLAG, …_SERVICE_SID_INFO
		"MsiServiceConfig": {"DelayedStart\tcertconnector\t5\t3\t1\tProgram", "FailuresToo\tcertconnector\t5\t4\t1\tProgram", "OwnSID\tcertconnector\t5\t5\t1\tProgram"},
		"MsiLockPermissionsEx": {
			"ConfigRights\tCONFIGDIR\tCreateFolder\tO:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9" + sid + "\t",
			"StateRights\tSTATEDIR\tCreateFolder\tO:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf" + sid + "\t",
		},
		"MoveFile": {"GivenConfigFile\tGivenConfig\t\tcertconnector.yaml\tCONFIG\tCONFIGDIR\t0"},
		"Upgrade": {
			"{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C11}\t\t1.0.0\t\t513\t\tWIX_UPGRADE_DETECTED",
			"{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C11}\t1.0.0\t\t\t2\t\tWIX_DOWNGRADE_DETECTED",
		},
		"Environment": {"SearchPathEntry\t=-*PATH\t[~];[INSTALLDIR]\tSearchPath"},
		// 64-bit; a given configuration is copied once, and never touched again.
		"Component": {
			"Program\t{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C21}\tINSTALLDIR\t256\t\tProgramFile",
			"GivenConfig\t{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C25}\tCONFIGDIR\t400\tCONFIG AND NOT CONFIGFOUND\t",
		},
		"InstallExecuteSequence": {
			"DeleteServices\tVersionNT AND NOT UPGRADINGPRODUCTCODE\t2000",
			"MsiConfigureServices\tVersionMsi >= \"5.00\"\t5850",
			"StartServices\tVersionNT AND (CONFIG OR CONFIGFOUND) AND STARTSERVICE <> \"0\"\t5900",
		},
		"Property": {"ProductVersion\t1.0.0", "ALLUSERS\t1",
			"SecureCustomProperties\tWIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED;CONFIG;CONFIGFOUND;STARTSERVICE;SERVICEACCOUNT;ACCOUNTFOUND"},
	} {
		got := rows(t, msi, table)
		for _, row := range want {
			if !slices.Contains(got, row) {
				t.Errorf("%s lacks\n%q; it has\n%q", table, row, got)
			}
		}
	}
	code := func(msi string) (product string) {
		for _, row := range rows(t, msi, "Property") {
			if c, ok := strings.CutPrefix(row, "ProductCode\t"); ok {
				product = c
			}
		}
		return product
	}
	if code(msi) == "" || code(msi) == code(older) {
		t.Error("two versions are one product: Windows Installer would not upgrade")
	}
	for _, file := range rows(t, msi, "File") {
		if strings.Contains(file, ".yaml") && !strings.Contains(file, "certconnector.full.yaml") {
			t.Errorf("it holds a configuration, which an upgrade could overwrite: %q", file)
		}
	}
}

// TestSigning signs by a certificate of a test and has it verified.
func TestSigning(t *testing.T) {
	winetest.Need(t, "osslsigncode", "osslsigncode")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	host(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
		"-subj", "/CN=certconnector test", "-addext", "extendedKeyUsage=codeSigning", "-addext", "keyUsage=digitalSignature")
	signed := built(t, "v1.0.0", "--sign-cert", cert, "--sign-key", key)
	unpacked := filepath.Join(dir, "unpacked")
	host(t, "msiextract", "-C", unpacked, only(t, signed, "*.msi"))
	unpackedProgram := filepath.Join(unpacked, "certconnector", "certconnector.exe")
	for _, file := range []string{only(t, signed, "*.msi"), unpackedProgram, zipped(t, only(t, signed, "*.zip"))} {
		out := host(t, "osslsigncode", "verify", "-CAfile", cert, "-TSA-CAfile", cert, "-in", file)
		if !strings.Contains(out, "Signature verification: ok") {
			t.Errorf("%s: %s", file, out)
		}
	}
}

// zipped takes the program out of an archive.
func zipped(t *testing.T, archive string) (file string) {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }() // only read
	base := strings.TrimSuffix(filepath.Base(archive), ".zip")
	b, err := fs.ReadFile(z, base+"/certconnector.exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"LICENSE", "README.md", "third-party.txt", "configs/certconnector.full.yaml", "completions/certconnector.ps1"} {
		if _, err := fs.Stat(z, base+"/"+other); err != nil {
			t.Errorf("the archive lacks %s: %v", other, err)
		}
	}
	file = filepath.Join(t.TempDir(), "certconnector.exe")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
