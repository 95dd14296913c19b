// Package ndesdll holds no Go code but tests: in src is a policy module in C
// for Microsoft's NDES, a COM class with the methods of INDESPolicy that asks
// the registration point (package crphttp) over mutual TLS. It is C and not Go
// because NDES loads it into an IIS worker process, from which a Go runtime
// cannot be unloaded. build.sh builds it, README.md says how it is installed.
package ndesdll
