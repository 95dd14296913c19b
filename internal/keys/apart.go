package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// CheckApart refuses a certificate that is not in a file of its own, apart from
// its key and whatever else is given, before new ones are put in their places:
// what waits or is kept beside one name for two would be written over, and a
// key lost. To read both from one file is fine.
func CheckApart(certificate string, others ...string) error {
	if InStore(certificate) {
		return fmt.Errorf("certificate %s is in a certificate store: import the new one there, and name it in the configuration", certificate)
	}
	for _, other := range others {
		if !IsURI(other) && sameFile(certificate, other) {
			return fmt.Errorf("%q is named for two things, which are replaced one after the other: a key would be lost. Give each certificate and key a file of its own in the configuration, then run this again", certificate)
		}
	}
	return nil
}

// sameFile tells that two names are, or would be, those of one file.
func sameFile(a, b string) bool {
	if sameThing(a, b) {
		return true
	}
	nameA, nameB := filepath.Base(a), filepath.Base(b)
	folds := runtime.GOOS == "windows" || runtime.GOOS == "darwin" // capital letters or not, it is one name
	if nameA != nameB && !(folds && strings.EqualFold(nameA, nameB)) {
		return false
	}
	return filepath.Dir(a) == filepath.Dir(b) || sameThing(filepath.Dir(a), filepath.Dir(b))
}

// sameThing tells that two names lead to one file or folder that is there.
func sameThing(a, b string) bool {
	isA, errA := os.Stat(a)
	isB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(isA, isB)
}
