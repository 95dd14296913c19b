//go:build !unix

package main

import "testing"

// ordinaryUmask does nothing: there are no umasks.
func ordinaryUmask(*testing.T) {}
