package ownenroll

// Begun tells whether an earlier run got so far with a role that the next one
// needs no new request: the CA has parked one, or its certificate waits.
func Begun(role Role) bool {
	return exists(role.Certificate+pendingSuffix) || exists(role.Certificate+newSuffix)
}
