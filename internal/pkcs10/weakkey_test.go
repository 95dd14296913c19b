package pkcs10_test

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// rocaPrime makes a prime as the vulnerable library does for keys of 2048
// bits: k·M + (65537^a mod M), M the product of the first 126 primes.
func rocaPrime(t testing.TB) *big.Int {
	t.Helper()
	m, n := big.NewInt(1), int64(2)
	for found := 0; found < 126; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			m.Mul(m, p)
			found++
		}
	}
	for range 100_000 {
		a, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 250))
		if err != nil {
			t.Fatal(err)
		}
		k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(1024-m.BitLen())))
		if err != nil {
			t.Fatal(err)
		}
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		p.Add(p, k.Mul(k, m))
		if p.BitLen() >= 1020 && p.ProbablyPrime(8) {
			return p
		}
	}
	t.Fatal("no prime was found")
	return nil
}

func TestWeakKeysAreRecognised(t *testing.T) {
	good := testkeys.RSA2048(0)
	for name, tc := range map[string]struct {
		n    *big.Int
		want string
	}{
		"ROCA":                        {new(big.Int).Mul(rocaPrime(t), rocaPrime(t)), "ROCA"},
		"one ROCA prime and a random": {new(big.Int).Mul(rocaPrime(t), good.Primes[0]), ""},
		"even modulus":                {new(big.Int).Lsh(good.N, 1), "even"},
		"factor 3":                    {new(big.Int).Mul(good.N, big.NewInt(3)), "divisible by 3"},
		"factor 751":                  {new(big.Int).Mul(good.N, big.NewInt(751)), "divisible by 751"},
		"factor beyond the small":     {new(big.Int).Mul(good.N, big.NewInt(757)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := pkcs10.WeakKey(&rsa.PublicKey{N: tc.n, E: 65537})
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want something with %q", got, tc.want)
			}
		})
	}
}

func TestSoundKeysAreNotWeak(t *testing.T) {
	for i := range 8 {
		if got := pkcs10.WeakKey(testkeys.RSA2048(i).Public()); got != "" {
			t.Errorf("test key %d: %s", i, got)
		}
	}
	for _, key := range []any{testkeys.RSA1024().Public(), testkeys.P256(0).Public()} {
		if got := pkcs10.WeakKey(key); got != "" {
			t.Errorf("%T: %s", key, got)
		}
	}
}

// BenchmarkWeakKey is what every enrolment pays: some microseconds beside some
// milliseconds of RSA.
func BenchmarkWeakKey(b *testing.B) {
	key := testkeys.RSA2048(0).Public()
	for b.Loop() {
		if pkcs10.WeakKey(key) != "" {
			b.Fatal("a sound key is called weak")
		}
	}
}
