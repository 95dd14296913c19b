package secret

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Unchecked says why this system's access control lists say nothing, or is
// empty. Under Wine, which keeps no list that it is given, whoever reaches the
// files reads them: CheckPrivate and CheckOwner then let everything pass, and
// the program says so when it starts.
func Unchecked() string {
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
		return "Wine keeps no access control lists: private files are not checked"
	}
	return ""
}

// CheckOwner refuses a folder whose new files would be open to others: what is
// made in it gets its rights from it.
func CheckOwner(folder string) error {
	d, self, err := rightsOf(folder)
	if err != nil || Unchecked() != "" {
		return err
	}
	return d.refuse(folder, "hands its new files to", self, d.heirs(self))
}

// CheckPrivate refuses a file that others may read or change: a key, a secret,
// the journal. Others are all but SYSTEM, Administrators, the accounts of
// services, the account that asks, and accounts of a computer or domain that
// its rights name one by one. The owner is another, too, unless it is one of
// these, or an account whose own the folder is.
func CheckPrivate(path string) error {
	d, self, err := rightsOf(path)
	if err != nil || Unchecked() != "" {
		return err
	}
	return d.refuse(path, "is open to", self, d.strangers(self))
}

// CheckUnwritable refuses a configuration that strangers may change, or replace
// by another one: whoever writes it tells the service what to do. Any user may
// make a folder in C:\ProgramData before the program is installed.
func CheckUnwritable(path string) error {
	d, self, err := rightsOf(path)
	if err != nil || Unchecked() != "" {
		return err
	}
	if err := d.refuse(path, "may be changed by", self, d.writers(self)); err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("looking at who may change the configuration: %w", err)
	}
	folder := filepath.Dir(path)
	if d, self, err = rightsOf(folder); err != nil {
		return err
	}
	return d.refuse(folder, "may be emptied by", self, d.replacers(self))
}

// entrusted says that the owner of a file is an account that was given the
// folder above: a service that runs as an account of a domain owns what it
// makes. The first folder that is not the account's own has to be of
// somebody who may give it, and name the account.
func entrusted(path, owner, self string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	for folder := filepath.Dir(path); ; folder = filepath.Dir(folder) {
		d, _, err := rightsOf(folder)
		if err != nil {
			return false
		}
		if d.owner != owner || folder == filepath.Dir(folder) {
			return !d.foreign(self) && d.names(owner)
		}
	}
}

// rightsOf reads the rights on a file, and says which account asks.
func rightsOf(path string) (d descriptor, self string, err error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return d, "", fmt.Errorf("reading who may use %q: %w", path, err)
	}
	if d, err = parseDescriptor(unsafe.Slice((*byte)(unsafe.Pointer(sd)), sd.Length())); err != nil {
		return d, "", fmt.Errorf("reading who may use %q: %w", path, err)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return d, "", fmt.Errorf("asking which account this is: %w", err)
	}
	return d, user.User.Sid.String(), nil
}

// refuse says who the strangers are, and how they are kept out.
func (d descriptor) refuse(path, verb, self string, strangers []string) error {
	foreign := d.foreign(self)
	if foreign && len(strangers) > 0 && entrusted(path, d.owner, self) {
		foreign = false
		strangers = slices.DeleteFunc(strangers, func(sid string) bool { return sid == d.owner })
	}
	if len(strangers) == 0 {
		return nil
	}
	names, list, take := make([]string, len(strangers)), "", ""
	for i, sid := range strangers {
		names[i] = accountName(sid)
		if foreign && sid == d.owner {
			names[i] += " (the owner)"
			take = fmt.Sprintf("icacls \"%s\" /setowner *S-1-5-32-544, ", path)
		}
		list += " *" + sid
	}
	return fmt.Errorf("%q %s %s: run %sicacls \"%s\" /inheritance:d and then icacls \"%s\" /remove:g%s, look through what it holds, and replace it if it is secret",
		path, verb, strings.Join(names, ", "), take, path, path, list)
}

// accountName is an account's name, or its number where no name is known.
func accountName(sid string) string {
	s, err := windows.StringToSid(sid)
	if err != nil {
		return sid
	}
	name, domain, _, err := s.LookupAccount("")
	switch {
	case err != nil:
		return sid
	case domain == "":
		return name
	}
	return domain + `\` + name
}

// RestrictFolder gives a folder, and what is in it and inherits its rights, to
// SYSTEM, Administrators and the accounts, and to nobody else. The accounts may
// read, write and delete; they are names such as "NT SERVICE\certconnector"
// (of a service that need not be there yet), "CONTOSO\gmsa$", or SIDs.
// Administrators become the folder's owner, so that whoever made it before
// cannot give rights again. Only an administrator can do this.
func RestrictFolder(path string, accounts ...string) error {
	return restrict(path, mayModify, accounts)
}

// ReadableFolder is RestrictFolder for accounts that may read and not write: a
// service does not change its configuration.
func ReadableFolder(path string, accounts ...string) error {
	return restrict(path, mayRead, accounts)
}

func restrict(path, mask string, accounts []string) error {
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return fmt.Errorf("protecting a folder: %w", err)
	}
	sids := make([]string, 0, len(accounts))
	for _, a := range accounts {
		sid, err := accountSID(a)
		if err != nil {
			return fmt.Errorf("protecting %q: %w", path, err)
		}
		sids = append(sids, sid)
	}
	return setRights(path, administrators, folderList(mask, sids))
}

// setRights sets a DACL, and the owner unless it is nil.
func setRights(path string, owner *windows.SID, list string) error {
	sd, err := windows.SecurityDescriptorFromString(list)
	if err != nil {
		return fmt.Errorf("protecting %q: %w", path, err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("protecting %q: %w", path, err)
	}
	what := windows.SECURITY_INFORMATION(windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION)
	if owner != nil {
		what |= windows.OWNER_SECURITY_INFORMATION
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, what, owner, nil, dacl, nil); err != nil {
		return fmt.Errorf("protecting %q (only an administrator can): %w", path, err)
	}
	return nil
}

// RestrictMade protects a folder that this process has just made, if the rights
// that it inherited would open its files to others: for the account of this
// process, SYSTEM and Administrators only.
func RestrictMade(path string) error {
	d, self, err := rightsOf(path)
	if err != nil || Unchecked() != "" {
		return err
	}
	if len(d.heirs(self)) == 0 && len(d.strangers(self)) == 0 {
		return nil
	}
	return setRights(path, nil, privateList([]string{self}))
}

func accountSID(account string) (string, error) {
	if _, err := windows.StringToSid(account); err == nil {
		return account, nil
	}
	if domain, service, ok := strings.Cut(account, `\`); ok && strings.EqualFold(domain, "NT SERVICE") && service != "" {
		return serviceSID(service), nil
	}
	sid, _, _, err := windows.LookupSID("", account)
	if errors.Is(err, windows.ERROR_NONE_MAPPED) {
		return "", fmt.Errorf("no account is named %q: write it as DOMAIN\\name, a group managed account with $ at its end", account)
	}
	if err != nil {
		return "", fmt.Errorf("looking up account %q: %w", account, err)
	}
	return sid.String(), nil
}
