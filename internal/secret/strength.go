package secret

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// What a secret must have that strangers may try: so many bits if each of its
// characters was drawn at random from the kinds of characters it has, and so
// many different ones, which keeps out what is long but simple.
const (
	MinBits      = 128
	MinDifferent = 8
)

// CheckStrength says that a secret can be guessed. It cannot tell a random one
// from a sentence: have one made.
func CheckStrength(t Text) error {
	different := map[rune]bool{}
	var kinds [len(sizes)]bool
	for _, r := range t.Reveal() {
		different[r] = true
		kinds[kind(r)] = true
	}
	alphabet := 0.0
	for k, present := range kinds {
		if present {
			alphabet += sizes[k]
		}
	}
	bits := float64(utf8.RuneCountInString(t.Reveal())) * math.Log2(max(alphabet, 1))
	if bits < MinBits || len(different) < MinDifferent {
		return fmt.Errorf("can be guessed: it needs %d bits, as 32 random hexadecimal digits or 22 random letters and digits have", MinBits)
	}
	return nil
}

// sizes of the kinds of characters: digits, a-f, g-z, A-F, G-Z, all others.
var sizes = [...]float64{10, 6, 20, 6, 20, 33}

func kind(r rune) int {
	switch {
	case r >= '0' && r <= '9':
		return 0
	case r >= 'a' && r <= 'f':
		return 1
	case r >= 'g' && r <= 'z':
		return 2
	case r >= 'A' && r <= 'F':
		return 3
	case r >= 'G' && r <= 'Z':
		return 4
	}
	return 5
}
