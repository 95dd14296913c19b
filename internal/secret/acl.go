package secret

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// descriptor is what a security descriptor of Windows says that matters here.
type descriptor struct {
	owner string
	// open says that there is no DACL at all, which lets everybody in.
	open    bool
	entries []entry
}

// entry is one access control entry of a DACL ([MS-DTYP] 2.4.4).
type entry struct {
	kind  byte // ACCESS_ALLOWED_ACE_TYPE, …
	flags byte
	mask  uint32
	sid   string
}

// Kinds and flags of entries.
const (
	allowed         = 0x00
	denied          = 0x01
	allowedCallback = 0x09
	deniedCallback  = 0x0a
	objectInherit   = 0x01
	inheritOnly     = 0x08
)

// telling are the rights that tell or change what is in a file or folder, or
// let somebody take such a right: all but to look at attributes, to wait, to
// pass through and to read the rights themselves.
const telling = 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0040 | // data, extended attributes, children
	0x00010000 | 0x00040000 | 0x00080000 | // DELETE, WRITE_DAC, WRITE_OWNER
	0x10000000 | 0x40000000 | 0x80000000 | 0x02000000 // GENERIC_ALL, _WRITE, _READ, MAXIMUM_ALLOWED

// changing are the rights by which a file is changed, or such a right taken:
// data, DELETE, WRITE_DAC, WRITE_OWNER, GENERIC_ALL, GENERIC_WRITE,
// MAXIMUM_ALLOWED. replacing are those on its folder by which another file
// takes its place: FILE_DELETE_CHILD instead of data. A file that is there
// cannot be replaced by who may only add files.
const (
	changing  = 0x0002 | 0x0004 | 0x00010000 | 0x00040000 | 0x00080000 | 0x10000000 | 0x40000000 | 0x02000000
	replacing = 0x0040 | 0x00010000 | 0x00040000 | 0x00080000 | 0x10000000 | 0x02000000
)

// parseDescriptor reads a self-relative security descriptor ([MS-DTYP] 2.4.6).
func parseDescriptor(b []byte) (descriptor, error) {
	const daclPresent = 0x0004
	if len(b) < 20 || b[0] != 1 {
		return descriptor{}, errors.New("security descriptor is damaged")
	}
	var d descriptor
	if at := binary.LittleEndian.Uint32(b[4:]); at != 0 {
		sid, err := sidAt(b, uint64(at))
		if err != nil {
			return descriptor{}, err
		}
		d.owner = sid
	}
	at := uint64(binary.LittleEndian.Uint32(b[16:]))
	if binary.LittleEndian.Uint16(b[2:])&daclPresent == 0 || at == 0 {
		d.open = true
		return d, nil
	}
	if at+8 > uint64(len(b)) {
		return descriptor{}, errors.New("access control list is cut short")
	}
	count := int(binary.LittleEndian.Uint16(b[at+4:]))
	at += 8
	for range count {
		if at+8 > uint64(len(b)) {
			return descriptor{}, errors.New("access control list is cut short")
		}
		size := uint64(binary.LittleEndian.Uint16(b[at+2:]))
		if size < 8 || at+size > uint64(len(b)) {
			return descriptor{}, errors.New("access control entry is cut short")
		}
		e := entry{kind: b[at], flags: b[at+1], mask: binary.LittleEndian.Uint32(b[at+4:])}
		if e.kind == allowed || e.kind == denied || e.kind == allowedCallback || e.kind == deniedCallback {
			sid, err := sidAt(b[:at+size], at+8)
			if err != nil {
				return descriptor{}, err
			}
			e.sid = sid
		}
		d.entries = append(d.entries, e)
		at += size
	}
	return d, nil
}

// sidAt reads a security identifier ([MS-DTYP] 2.4.2.2).
func sidAt(b []byte, at uint64) (string, error) {
	if at+8 > uint64(len(b)) || b[at] != 1 || at+8+4*uint64(b[at+1]) > uint64(len(b)) {
		return "", errors.New("security identifier is damaged")
	}
	var authority uint64
	for _, x := range b[at+2 : at+8] {
		authority = authority<<8 | uint64(x)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "S-1-%d", authority)
	for i := range uint64(b[at+1]) {
		fmt.Fprintf(&text, "-%d", binary.LittleEndian.Uint32(b[at+8+4*i:]))
	}
	return text.String(), nil
}

// strangers lists who else may read or change the file: SIDs, each once, or
// "S-1-1-0" for everybody. self is the account that asks. Entries that deny
// are not believed: what they take away may be given by another group. An owner
// who is a stranger counts without any entry, as in all these lists: the owner
// may always change the entries.
func (d descriptor) strangers(self string) []string {
	return d.others(self, telling, entry.counts)
}

// writers lists who else may change the file.
func (d descriptor) writers(self string) []string { return d.others(self, changing, entry.counts) }

// replacers lists who else may put another file in the place of one in the
// folder.
func (d descriptor) replacers(self string) []string { return d.others(self, replacing, entry.counts) }

// heirs lists who else could read or change a file that is made in the folder.
func (d descriptor) heirs(self string) []string {
	return d.others(self, telling, func(e entry) bool { return e.flags&objectInherit != 0 })
}

// counts says that an entry is for the file or folder itself.
func (e entry) counts() bool { return e.flags&inheritOnly == 0 }

func (d descriptor) others(self string, rights uint32, counts func(entry) bool) []string {
	if d.open {
		return []string{everyone}
	}
	var found []string
	if d.foreign(self) {
		found = append(found, cmp.Or(d.owner, everyone))
	}
	for _, e := range d.entries {
		if !counts(e) || e.kind == denied || e.kind == deniedCallback || e.mask&rights == 0 {
			continue
		}
		sid := e.sid
		if sid == "" { // a kind that no file has: believe the worst
			sid = everyone
		}
		if sid != self && wide(sid) && !slices.Contains(found, sid) {
			found = append(found, sid)
		}
	}
	return found
}

// foreign says that the owner is none of those who may do as they like, or who
// ask: SYSTEM, Administrators, a service (TrustedInstaller is one), self.
func (d descriptor) foreign(self string) bool {
	switch {
	case d.owner == "S-1-5-18", d.owner == "S-1-5-32-544":
		return false
	case strings.HasPrefix(d.owner, "S-1-5-80-"):
		return wide(d.owner)
	}
	return d.owner == "" || d.owner != self
}

// names says that a folder was given to an account by its own name.
func (d descriptor) names(sid string) bool {
	return !wide(sid) && slices.ContainsFunc(d.entries, func(e entry) bool {
		return e.kind == allowed && e.counts() && e.mask&changing != 0 && e.sid == sid
	})
}

const everyone = "S-1-1-0"

// wide says that an account stands for many, or for other services. Who has
// rights on a secret is a short list: SYSTEM, Administrators, the owner, the
// accounts of services, and accounts of a domain or computer, which somebody
// named on purpose. All others that Windows knows by a fixed number are wide.
func wide(sid string) bool {
	switch sid {
	case "S-1-5-18", // SYSTEM
		"S-1-5-32-544", // Administrators
		"S-1-5-32-551", // Backup Operators: reads everything by privilege
		"S-1-3-0",      // CREATOR OWNER, replaced by the owner on inheritance
		"S-1-3-4":      // OWNER RIGHTS
		return false
	case "S-1-5-80-0": // NT SERVICE\ALL SERVICES
		return true
	}
	switch {
	case strings.HasPrefix(sid, "S-1-5-80-"), // NT SERVICE\name, virtual accounts
		strings.HasPrefix(sid, "S-1-5-82-"), // IIS AppPool\name
		strings.HasPrefix(sid, "S-1-12-1-"): // an account of Entra ID
		return false
	case strings.HasPrefix(sid, "S-1-5-21-"):
		return slices.Contains(wideRIDs, sid[strings.LastIndex(sid, "-")+1:])
	}
	return true
}

// wideRIDs are the last numbers of a domain's accounts that stand for many:
// Guest, Domain Users, Domain Guests, Domain Computers.
var wideRIDs = []string{"501", "513", "514", "515"}
