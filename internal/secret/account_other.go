//go:build !unix

package secret

// Account is for systems with owners: elsewhere what is made gets its rights
// from its folder.
type Account struct{}

// AccountOf is the account of this process.
func AccountOf(...string) Account { return Account{} }

// Give has nothing to do.
func (Account) Give(string) error { return nil }

// CheckMaker is CheckOwner for several folders.
func CheckMaker(folders ...string) error {
	for _, folder := range folders {
		if err := CheckOwner(folder); err != nil {
			return err
		}
	}
	return nil
}
