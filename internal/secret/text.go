// Package secret keeps what must not be seen: texts that print as a
// placeholder, and records sealed with a key that only this host has.
package secret

// placeholder is what a secret looks like wherever it is printed.
const placeholder = "[redacted]"

// Text is a secret in memory: a challenge, a password, a token. Every way of
// printing it gives a placeholder; only Reveal gives the text.
type Text string

// Reveal returns the secret itself. Its callers are the few places that send
// or compare it.
func (t Text) Reveal() string { return string(t) }

// String returns a placeholder.
func (t Text) String() string { return placeholder }

// GoString returns a placeholder, for %#v.
func (t Text) GoString() string { return placeholder }

// MarshalText returns a placeholder, so that JSON and YAML print no secret.
func (t Text) MarshalText() ([]byte, error) { return []byte(placeholder), nil }
