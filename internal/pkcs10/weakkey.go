package pkcs10

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"math/big"
	"math/bits"
)

// WeakKey says why a public key is known to be bad, or returns "". It looks at
// RSA moduli only, and costs a few microseconds:
//
//   - a prime factor below 752 (NIST SP 800-89, section 5.3.3);
//   - the fingerprint of keys that Infineon's library made (ROCA,
//     CVE-2017-15361: Nemec, Sys, Svenda, Klinec and Matyas, "The Return of
//     Coppersmith's Attack", section 2). Its primes are k·M + (65537^a mod M),
//     M a product of small primes, so that the modulus is a power of 65537
//     modulo each of them. A random modulus is so once in about 2^28.
func WeakKey(key crypto.PublicKey) string {
	k, ok := key.(*rsa.PublicKey)
	if !ok || k.N.Sign() <= 0 {
		return ""
	}
	if k.N.Bit(0) == 0 {
		return "the modulus is even"
	}
	var quotient, reduced, residue big.Int
	quotient.QuoRem(k.N, smallPrimes, &reduced) // half as long, and the same for all that follows
	fingerprint := true
	for i := range primeGroups {
		g := &primeGroups[i]
		quotient.QuoRem(&reduced, g.product, &residue)
		r := residue.Uint64()
		for _, p := range g.primes {
			rest := r % uint64(p.prime)
			if rest == 0 && k.N.Cmp(big.NewInt(int64(p.prime))) != 0 {
				return fmt.Sprintf("the modulus is divisible by %d", p.prime)
			}
			if p.powers != nil && p.powers[rest/64]>>(rest%64)&1 == 0 {
				fingerprint = false
			}
		}
	}
	if fingerprint {
		return "the modulus has the fingerprint of CVE-2017-15361 (ROCA)"
	}
	return ""
}

const (
	factorBelow = 752 // of a modulus that was made with care
	rocaBelow   = 168 // primes up to 167 divide M for every key size the library makes
	rocaBase    = 65537
)

// smallPrime is an odd prime and, where the fingerprint looks at it, the set of
// powers of 65537 modulo it, one bit a residue.
type smallPrime struct {
	prime  uint32
	powers []uint64
}

// primeGroup is as many small primes as have a product of 64 bits, so that the
// long modulus is divided once for all of them.
type primeGroup struct {
	product *big.Int
	primes  []smallPrime
}

var (
	primeGroups = groupPrimes()
	smallPrimes = productOf(primeGroups)
)

func productOf(groups []primeGroup) *big.Int {
	product := big.NewInt(1)
	for _, g := range groups {
		product.Mul(product, g.product)
	}
	return product
}

func groupPrimes() (groups []primeGroup) {
	var (
		product uint64 = 1
		primes  []smallPrime
	)
	flush := func() {
		groups = append(groups, primeGroup{product: new(big.Int).SetUint64(product), primes: primes})
		product, primes = 1, nil
	}
	for n := uint32(3); n < factorBelow; n += 2 {
		if !big.NewInt(int64(n)).ProbablyPrime(0) { // exact below 2^64
			continue
		}
		if high, _ := bits.Mul64(product, uint64(n)); high != 0 {
			flush()
		}
		product *= uint64(n)
		p := smallPrime{prime: n}
		if n < rocaBelow {
			p.powers = powersOf65537(n)
		}
		primes = append(primes, p)
	}
	flush()
	return groups
}

// powersOf65537 returns the residues that 65537 generates modulo a prime, or
// nil where these are all but 0 and so tell nothing.
func powersOf65537(prime uint32) []uint64 {
	set := make([]uint64, prime/64+1)
	count := uint32(0)
	for r := uint32(1); set[r/64]>>(r%64)&1 == 0; r = r * (rocaBase % prime) % prime {
		set[r/64] |= 1 << (r % 64)
		count++
	}
	if count == prime-1 {
		return nil
	}
	return set
}
