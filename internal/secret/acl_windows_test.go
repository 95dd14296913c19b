package secret

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

func fromSDDL(t *testing.T, sddl string) descriptor {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		t.Fatalf("%s: %v", sddl, err)
	}
	d, err := parseDescriptor(unsafe.Slice((*byte)(unsafe.Pointer(sd)), sd.Length()))
	if err != nil {
		t.Fatalf("%s: %v", sddl, err)
	}
	return d
}

func TestRightsAsWindowsWritesThem(t *testing.T) {
	for sddl, want := range map[string][]string{
		"O:SYD:P(A;;FA;;;SY)(A;;FA;;;BA)":                        nil,
		"O:BAD:AI(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)":             {users},
		"O:BAD:(A;;FR;;;WD)(A;;FR;;;AU)(A;;FR;;;IU)(A;;FR;;;BG)": {everyone, "S-1-5-11", "S-1-5-4", "S-1-5-32-546"},
		"O:BAD:(A;OICIIO;GA;;;CO)":                               nil,
		"O:BAD:":                                                 {},
	} {
		if got := fromSDDL(t, sddl).strangers(self); !slices.Equal(got, want) {
			t.Errorf("%s is open to %v, want %v", sddl, got, want)
		}
	}
}

func TestPrivateListIsPrivate(t *testing.T) {
	service, err := accountSID(`NT SERVICE\certconnector`)
	if err != nil {
		t.Fatal(err)
	}
	d := fromSDDL(t, "O:BA"+privateList([]string{service}))
	if len(d.entries) != 3 || len(d.strangers(self)) != 0 || len(d.heirs(self)) != 0 {
		t.Errorf("the list that an installer sets: %+v", d)
	}
	if d := fromSDDL(t, "O:BA"+privateList([]string{users})); !slices.Equal(d.heirs(self), []string{users}) {
		t.Errorf("a list for Users hands files to %v", d.heirs(self))
	}
}

func TestRefusalNamesTheWayOut(t *testing.T) {
	d := descriptor{owner: users}
	err := d.refuse(`C:\nowhere\key.pem`, "is open to", self, []string{users, "S-1-5-21-1-2-3-513"})
	for _, part := range []string{"Users", "(the owner)", `icacls "C:\nowhere\key.pem" /setowner *S-1-5-32-544, `, `icacls "C:\nowhere\key.pem" /inheritance:d`, "/remove:g *S-1-5-32-545 *S-1-5-21-1-2-3-513"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
}

func TestAccounts(t *testing.T) {
	if sid, err := accountSID("S-1-5-18"); err != nil || sid != system {
		t.Errorf("a SID: %s, %v", sid, err)
	}
	if _, err := accountSID(`NOSUCHDOMAIN\nobody$`); err == nil {
		t.Error("an account that is not there was found")
	}
}

// What a system with access control lists does is seen on Windows only; under
// Wine this shows that rights can be read and set, and that nothing is refused.
func TestFolderIsRestricted(t *testing.T) {
	folder := t.TempDir()
	if err := RestrictFolder(folder, `NT SERVICE\certconnector`); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "local.key")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"CheckOwner": CheckOwner(folder), "CheckPrivate": CheckPrivate(file), "CheckUnwritable": CheckUnwritable(file), "RestrictMade": RestrictMade(folder)} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckPrivate(filepath.Join(folder, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v, want fs.ErrNotExist", err)
	}
	if Unchecked() != "" {
		return
	}
	everybody, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := everybody.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(file, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
	if CheckPrivate(file) == nil {
		t.Error("a file that everybody may read passed")
	}
	if CheckUnwritable(file) == nil {
		t.Error("a file that everybody may change passed")
	}
}
