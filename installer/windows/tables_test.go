package windows

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// table reads an .idt file: names, types and keys of columns, then rows.
func table(t *testing.T, name string) (columns []string, rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("tables", name+".idt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 4 || strings.Split(lines[2], "\t")[0] != name {
		t.Fatalf("%s: no heading, or no row", name)
	}
	columns = strings.Split(lines[0], "\t")
	for _, line := range lines[3:] {
		cells := strings.Split(line, "\t")
		if len(cells) != len(columns) || len(strings.Split(lines[1], "\t")) != len(columns) {
			t.Fatalf("%s: %d columns, but the row %q", name, len(columns), line)
		}
		row := map[string]string{}
		for i, c := range columns {
			row[c] = cells[i]
		}
		rows = append(rows, row)
	}
	return columns, rows
}

// TestTablesNameComponentsThatAreThere finds rows that would silently do
// nothing, or make Windows Installer refuse the package.
func TestTablesNameComponentsThatAreThere(t *testing.T) {
	b, err := os.ReadFile("certconnector.wxs")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "Component" || e.Name.Local == "Directory") {
			for _, a := range e.Attr {
				known[a.Value] = known[a.Value] || a.Name.Local == "Id"
			}
		}
	}
	files, err := filepath.Glob("tables/*.idt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".idt")
		_, rows := table(t, name)
		for _, row := range rows {
			for column, cell := range row {
				refers := column == "Component_" || column == "LockObject" || column == "DestFolder" || (name == "CustomAction" && row["Type"] != "51" && column == "Source")
				if refers && !known[cell] {
					t.Errorf("%s: %s is %q, which certconnector.wxs lacks", name, column, cell)
				}
			}
		}
	}
}

// TestRightsAreTheServicesOwn computes the security identifier that Windows
// gives to "NT SERVICE\certconnector": the table cannot name an account that
// is not there yet.
func TestRightsAreTheServicesOwn(t *testing.T) {
	var name []byte
	for _, u := range utf16.Encode([]rune("CERTCONNECTOR")) {
		name = binary.LittleEndian.AppendUint16(name, u)
	}
	sid, sum := "S-1-5-80", sha1.Sum(name)
	for i := 0; i < len(sum); i += 4 {
		sid += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	_, rows := table(t, "MsiLockPermissionsEx")
	for _, row := range rows {
		rights := "0x1301bf" // change
		if row["LockObject"] == "CONFIGDIR" {
			rights = "0x1200a9" // read
		}
		if want := "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;" + rights + ";;;" + sid + ")"; row["SDDLText"] != want {
			t.Errorf("%s has\n%s, want\n%s", row["LockObject"], row["SDDLText"], want)
		}
	}
	if len(rows) != 2 {
		t.Errorf("%d folders are protected", len(rows))
	}
}

// TestActionsComeInOrder holds the order that Windows Installer wants, and
// that ours depend on.
func TestActionsComeInOrder(t *testing.T) {
	_, rows := table(t, "InstallExecuteSequence")
	slices.SortStableFunc(rows, func(a, b map[string]string) int {
		x, _ := strconv.Atoi(a["Sequence"])
		y, _ := strconv.Atoi(b["Sequence"])
		return x - y
	})
	var order []string
	for _, row := range rows {
		order = append(order, row["Action"])
	}
	at := func(action string) int {
		i := slices.Index(order, action)
		if i < 0 {
			t.Fatalf("%s is not run", action)
		}
		return i
	}
	for _, c := range [][]string{
		{"AppSearch", "KeepAccount", "UseOwnAccount", "CostInitialize"},
		{"InstallInitialize", "RemoveExistingProducts", "ProcessComponents"}, // undone together
		{"StopServices", "DeleteServices", "RemoveFiles", "CreateFolders", "MoveFiles", "InstallFiles"},
		{"InstallFiles", "InstallServices", "MsiConfigureServices", "SetRecovery", "StartServices", "InstallFinalize"},
	} {
		if !slices.IsSortedFunc(c, func(a, b string) int { return at(a) - at(b) }) {
			t.Errorf("%v is not the order of %v", c, order)
		}
	}
	for _, row := range rows {
		if row["Action"] == "DeleteServices" && !strings.Contains(row["Condition"], "NOT UPGRADINGPRODUCTCODE") {
			t.Error("an upgrade deletes the service, and with it a password that an administrator typed")
		}
	}
}
