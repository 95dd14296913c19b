package osservice

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Packaged reports whether Windows Installer has installed a product with the
// upgrade code, as "{0F4C2C60-…}".
func (Manager) Packaged(upgradeCode string) (bool, error) {
	code, err := windows.UTF16PtrFromString(upgradeCode)
	if err != nil {
		return false, fmt.Errorf("the upgrade code: %w", err)
	}
	find := windows.NewLazySystemDLL("msi.dll").NewProc("MsiEnumRelatedProductsW")
	if err := find.Find(); err != nil {
		return false, nil // without Windows Installer there are no packages
	}
	var product [39]uint16
	r, _, _ := find.Call(uintptr(unsafe.Pointer(code)), 0, 0, uintptr(unsafe.Pointer(&product[0])))
	switch windows.Errno(r) {
	case windows.ERROR_SUCCESS:
		return true, nil
	case windows.ERROR_NO_MORE_ITEMS:
		return false, nil
	}
	return false, fmt.Errorf("asking Windows Installer: %w", windows.Errno(r))
}
