package adcs

import "github.com/certconnector/certconnector/ca"

// Bridge returns the CA with the optional interfaces that its configuration
// gives it, and no others: callers find out by a type assertion.
//
//	Collector           always
//	Publisher           over DCOM
//	Revoker, Checker    with Revoke
//	Approver            with Approve
//	Finder              with Find
func (c *CA) Bridge() ca.Authority {
	if !c.hasDCOM() {
		return c
	}
	p := publisher{c}
	switch {
	case c.approve && c.find:
		return struct {
			*CA
			publisher
			revoker
			approver
			finder
		}{c, p, revoker{c}, approver{c}, finder{c}}
	case c.approve:
		return struct {
			*CA
			publisher
			revoker
			approver
		}{c, p, revoker{c}, approver{c}}
	case c.revoke && c.find:
		return struct {
			*CA
			publisher
			revoker
			finder
		}{c, p, revoker{c}, finder{c}}
	case c.revoke:
		return struct {
			*CA
			publisher
			revoker
		}{c, p, revoker{c}}
	case c.find:
		return struct {
			*CA
			publisher
			finder
		}{c, p, finder{c}}
	}
	return struct {
		*CA
		publisher
	}{c, p}
}
