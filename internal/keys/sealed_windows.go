package keys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// purpose goes into what is sealed ("optional entropy"), so that no other
// program opens it by mistake. It is in every copy of this program, and so no
// secret.
const purpose = "certconnector private key v1"

// protect seals with DPAPI (CryptProtectData).
func protect(plain []byte, scope Scope) ([]byte, error) {
	flags := uint32(windows.CRYPTPROTECT_UI_FORBIDDEN)
	if scope != ScopeUser {
		flags |= windows.CRYPTPROTECT_LOCAL_MACHINE
	}
	var out windows.DataBlob
	if err := windows.CryptProtectData(blob(plain), nil, blob([]byte(purpose)), 0, nil, flags, &out); err != nil {
		return nil, fmt.Errorf("sealing with DPAPI: %w", err)
	}
	return taken(out)
}

// unprotect opens what protect sealed. The scope is written into it.
func unprotect(sealed []byte) ([]byte, error) {
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(blob(sealed), nil, blob([]byte(purpose)), 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("opening with DPAPI: %w; the key was sealed on another machine, by another account (scope user), or is damaged: use the key that was sealed, or make a new one", err)
	}
	return taken(out)
}

func blob(b []byte) *windows.DataBlob {
	return &windows.DataBlob{Size: uint32(len(b)), Data: unsafe.SliceData(b)}
}

// taken copies what Windows allocated, clears that and gives it back.
func taken(out windows.DataBlob) ([]byte, error) {
	theirs := unsafe.Slice(out.Data, out.Size)
	ours := append([]byte(nil), theirs...)
	clear(theirs)
	if _, err := windows.LocalFree(windows.Handle(unsafe.Pointer(out.Data))); err != nil {
		return nil, fmt.Errorf("giving memory back to DPAPI: %w", err)
	}
	return ours, nil
}

// sameRights gives a file the access control list of another one.
func sameRights(as, path string) error {
	sd, err := windows.GetNamedSecurityInfo(as, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("reading who may use %q: %w", as, err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("reading who may use %q: %w", as, err)
	}
	control, _, err := sd.Control()
	if err != nil {
		return fmt.Errorf("reading who may use %q: %w", as, err)
	}
	what := windows.SECURITY_INFORMATION(windows.DACL_SECURITY_INFORMATION)
	if control&windows.SE_DACL_PROTECTED != 0 {
		what |= windows.PROTECTED_DACL_SECURITY_INFORMATION
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, what, nil, nil, dacl, nil); err != nil {
		return fmt.Errorf("protecting %q: %w", path, err)
	}
	return nil
}
