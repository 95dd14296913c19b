package secret

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

const (
	self    = "S-1-5-21-1-2-3-1105"
	system  = "S-1-5-18"
	admins  = "S-1-5-32-544"
	users   = "S-1-5-32-545"
	fullSet = 0x1f01ff
	readSet = 0x120089
)

func TestStrangers(t *testing.T) {
	for name, row := range map[string]struct {
		entries         []entry
		strangers, heir []string
	}{
		"SYSTEM, Administrators and a service": {[]entry{{0, 3, fullSet, system}, {0, 3, fullSet, admins},
			{0, 3, readSet, serviceSID("certconnector")}}, nil, nil},
		"the account that asks, whatever it is": {[]entry{{0, 0, readSet, self}}, nil, nil},
		"a group managed account":               {[]entry{{0, 0, readSet, "S-1-5-21-1-2-3-2201"}}, nil, nil},
		"the owner by OWNER RIGHTS":             {[]entry{{0, 0, fullSet, "S-1-3-4"}}, nil, nil},
		"Everyone reads":                        {[]entry{{0, 0, readSet, everyone}}, []string{everyone}, nil},
		"Users write":                           {[]entry{{0, 3, 2, users}}, []string{users}, []string{users}},
		"Users append":                          {[]entry{{0, 0, 4, users}}, []string{users}, nil},
		"Users delete":                          {[]entry{{0, 0, 0x10000, users}}, []string{users}, nil},
		"Users give rights":                     {[]entry{{0, 0, 0x40000, users}}, []string{users}, nil},
		"Users have a generic right":            {[]entry{{0, 0, 0x80000000, users}}, []string{users}, nil},
		"Users look at attributes":              {[]entry{{0, 0, 0x120080, users}}, nil, nil},
		"Authenticated Users, twice":            {[]entry{{0, 0, 1, "S-1-5-11"}, {0, 0, 2, "S-1-5-11"}}, []string{"S-1-5-11"}, nil},
		"Interactive":                           {[]entry{{0, 0, 1, "S-1-5-4"}}, []string{"S-1-5-4"}, nil},
		"Guests":                                {[]entry{{0, 0, 1, "S-1-5-32-546"}}, []string{"S-1-5-32-546"}, nil},
		"Domain Users":                          {[]entry{{0, 0, 1, "S-1-5-21-1-2-3-513"}}, []string{"S-1-5-21-1-2-3-513"}, nil},
		"Domain Computers":                      {[]entry{{0, 0, 1, "S-1-5-21-1-2-3-515"}}, []string{"S-1-5-21-1-2-3-515"}, nil},
		"all services":                          {[]entry{{0, 0, 1, "S-1-5-80-0"}}, []string{"S-1-5-80-0"}, nil},
		"every app":                             {[]entry{{0, 0, 1, "S-1-15-2-1"}}, []string{"S-1-15-2-1"}, nil},
		"network services that are not this":    {[]entry{{0, 0, 1, "S-1-5-20"}}, []string{"S-1-5-20"}, nil},
		"inherited by new files only":           {[]entry{{0, 0x0b, readSet, users}}, nil, []string{users}},
		"inherited by new folders only":         {[]entry{{0, 0x0a, readSet, users}}, nil, nil},
		"what is denied is not counted":         {[]entry{{1, 0, readSet, users}}, nil, nil},
		"a denial takes nothing back":           {[]entry{{1, 0, readSet, users}, {0, 0, readSet, users}}, []string{users}, nil},
		"a condition is not believed":           {[]entry{{9, 0, readSet, users}}, []string{users}, nil},
		"an entry that no file has":             {[]entry{{5, 0, readSet, ""}}, []string{everyone}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := descriptor{owner: admins, entries: row.entries}
			if got := d.strangers(self); !slices.Equal(got, row.strangers) {
				t.Errorf("open to %v, want %v", got, row.strangers)
			}
			if got := d.heirs(self); !slices.Equal(got, row.heir) {
				t.Errorf("hands files to %v, want %v", got, row.heir)
			}
		})
	}
	if got := (descriptor{open: true}).strangers(self); !slices.Equal(got, []string{everyone}) {
		t.Errorf("a file without a DACL is open to %v", got)
	}
}

// Whoever owns a file may give himself any right on it.
func TestOwnersWhoAreStrangers(t *testing.T) {
	const bob = "S-1-5-21-1-2-3-1200"
	private := []entry{{0, 3, fullSet, system}, {0, 3, fullSet, admins}}
	for name, row := range map[string]struct {
		owner string
		want  []string
	}{
		"SYSTEM":                            {system, nil},
		"Administrators":                    {admins, nil},
		"the account that asks":             {self, nil},
		"the account of a service":          {serviceSID("certconnector"), nil},
		"TrustedInstaller":                  {serviceSID("TrustedInstaller"), nil},
		"an ordinary user":                  {bob, []string{bob}},
		"all services":                      {"S-1-5-80-0", []string{"S-1-5-80-0"}},
		"Users":                             {users, []string{users}},
		"nobody, as far as Windows says so": {"", []string{everyone}},
	} {
		d := descriptor{owner: row.owner, entries: private}
		for list, got := range map[string][]string{"strangers": d.strangers(self), "heirs": d.heirs(self), "writers": d.writers(self), "replacers": d.replacers(self)} {
			if !slices.Equal(got, row.want) {
				t.Errorf("%s owns it: %s %v, want %v", name, list, got, row.want)
			}
		}
	}
	// Once, also where he has a right besides.
	if got := (descriptor{owner: users, entries: []entry{{0, 0, fullSet, users}}}).strangers(self); !slices.Equal(got, []string{users}) {
		t.Errorf("open to %v", got)
	}
}

func TestWhoMayChangeOrReplace(t *testing.T) {
	for name, row := range map[string]struct {
		entry             entry
		change, replacing bool
	}{
		"read":                   {entry{0, 0, readSet, users}, false, false},
		"write":                  {entry{0, 0, 2, users}, true, false},
		"append, or add folders": {entry{0, 0, 4, users}, true, false},
		"delete":                 {entry{0, 0, 0x10000, users}, true, true},
		"delete what is in it":   {entry{0, 0, 0x40, users}, false, true},
		"give rights":            {entry{0, 0, 0x40000, users}, true, true},
		"take it over":           {entry{0, 0, 0x80000, users}, true, true},
		"all":                    {entry{0, 0, fullSet, users}, true, true},
		"hand down only":         {entry{0, 0x0b, fullSet, users}, false, false},
		"a service writes":       {entry{0, 0, fullSet, serviceSID("certconnector")}, false, false},
	} {
		d := descriptor{owner: admins, entries: []entry{row.entry}}
		if got := len(d.writers(self)) > 0; got != row.change {
			t.Errorf("%s: changes %v", name, got)
		}
		if got := len(d.replacers(self)) > 0; got != row.replacing {
			t.Errorf("%s: replaces %v", name, got)
		}
	}
}

// A folder names an account that was given rights of its own, not as one of
// many.
func TestAccountsThatAFolderNames(t *testing.T) {
	const managed = "S-1-5-21-1-2-3-2201"
	for name, row := range map[string]struct {
		entry entry
		sid   string
		want  bool
	}{
		"it may modify":              {entry{0, 3, 0x1301bf, managed}, managed, true},
		"it may read":                {entry{0, 3, 0x1200a9, managed}, managed, false},
		"another one may":            {entry{0, 3, 0x1301bf, self}, managed, false},
		"it is denied":               {entry{1, 3, 0x1301bf, managed}, managed, false},
		"what is inside is given it": {entry{0, 0x0b, 0x1301bf, managed}, managed, false},
		"it is many":                 {entry{0, 3, 0x1301bf, users}, users, false},
	} {
		if got := (descriptor{owner: admins, entries: []entry{row.entry}}).names(row.sid); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// bytesOf writes a descriptor as Windows does, with the owner SYSTEM.
func bytesOf(entries []entry) []byte {
	b := []byte{1, 0, 4, 0x80, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0,
		1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0}
	list := []byte{2, 0, 0, 0, byte(len(entries)), 0, 0, 0}
	for _, e := range entries {
		sid := []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0} // Users
		list = append(list, e.kind, e.flags, byte(8+len(sid)), 0)
		list = binary.LittleEndian.AppendUint32(list, e.mask)
		list = append(list, sid...)
	}
	binary.LittleEndian.PutUint16(list[2:], uint16(len(list)))
	return append(b, list...)
}

func TestParseDescriptor(t *testing.T) {
	d, err := parseDescriptor(bytesOf([]entry{{0, 0x10, readSet, users}, {1, 0, fullSet, users}}))
	if err != nil {
		t.Fatal(err)
	}
	if d.open || d.owner != system || !slices.Equal(d.entries, []entry{{0, 0x10, readSet, users}, {1, 0, fullSet, users}}) {
		t.Errorf("read as %+v", d)
	}
	none := bytesOf(nil)
	none[2] = 0
	if d, err := parseDescriptor(none); err != nil || !d.open {
		t.Errorf("without a DACL: %+v, %v", d, err)
	}
	if d, err := parseDescriptor(bytesOf(nil)); err != nil || d.open || len(d.strangers(self)) != 0 {
		t.Errorf("an empty DACL lets nobody in: %+v, %v", d, err)
	}
}

func FuzzParseDescriptor(f *testing.F) {
	f.Add(bytesOf(nil))
	f.Add(bytesOf([]entry{{0, 0, readSet, users}, {5, 0, 1, users}, {9, 3, 1, users}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescriptor(b)
		if err != nil {
			return
		}
		for _, e := range d.entries {
			if e.sid != "" && !strings.HasPrefix(e.sid, "S-1-") {
				t.Errorf("entry of %q", e.sid)
			}
		}
		d.strangers(self)
		d.replacers(self)
	})
}

// The service's number that every Windows has is the known answer.
func TestServiceSID(t *testing.T) {
	if got := serviceSID("TrustedInstaller"); got != "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464" {
		t.Errorf("got %s", got)
	}
	if serviceSID("CertConnector") != serviceSID("certconnector") {
		t.Error("capital letters make another service")
	}
}
