//go:build !windows

package keys

import "errors"

var errNoDPAPI = errors.New("the key is, or is to be, sealed by DPAPI, which Windows alone has: only the machine that sealed it can use it")

func protect([]byte, Scope) ([]byte, error) { return nil, errNoDPAPI }

func unprotect([]byte) ([]byte, error) { return nil, errNoDPAPI }

// sameRights has nothing to do: nothing is sealed here.
func sameRights(string, string) error { return nil }
