package secret

// Access masks: what the file properties of Windows call "modify" and "read and
// execute".
const (
	mayModify = "0x1301bf"
	mayRead   = "0x1200a9"
)

// privateList is the DACL, as SDDL, that RestrictFolder sets: protected from
// what the parent hands down, full control for SYSTEM and Administrators,
// "modify" for the given accounts, all of it inherited by what is in the folder.
func privateList(sids []string) string { return folderList(mayModify, sids) }

func folderList(mask string, sids []string) string {
	list := "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
	for _, sid := range sids {
		list += "(A;OICI;" + mask + ";;;" + sid + ")"
	}
	return list
}
