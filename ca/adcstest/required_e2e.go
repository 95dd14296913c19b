//go:build e2e || e2eca || e2ewindows

package adcstest

const required = true
