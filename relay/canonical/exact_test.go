package canonical

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// halfWay is the text of the number half-way between the double of these bits and the next larger one, all its digits.
func halfWay(of uint64) string {
	at := new(big.Float).SetPrec(2000).SetFloat64(math.Float64frombits(of))
	at.Add(at, new(big.Float).SetPrec(2000).SetFloat64(math.Float64frombits(of+1)))
	return at.Quo(at, big.NewFloat(2)).Text('e', 800)
}

// checkDouble compares the double that we take a text for with that of math/big.
func checkDouble(t *testing.T, text string) {
	t.Helper()
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("math/big does not read %s", text)
	}
	want, _ := exact.Float64()
	var scratch digits
	d := readDecimal([]byte(text), &scratch)
	got := 0.0
	if d.count > 0 {
		got = d.float(&scratch)
	}
	if d.negative {
		got = -got
	}
	if got != want {
		t.Errorf("%.60s… (%d digits) is taken for %v, want %v", text, d.count, got, want)
	}
}

func TestNumbersAreTheNearestDouble(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = '0' + byte(random.IntN(10))
		}
		return string(b)
	}
	for range 3000 {
		checkDouble(t, fmt.Sprintf("%d.%se%d", 1+random.IntN(9), digits(1+random.IntN(40)), -322+random.IntN(630)))
		checkDouble(t, fmt.Sprintf("%d.%se%d", 1+random.IntN(9), digits(1+random.IntN(790)), -322+random.IntN(30)))
		checkDouble(t, fmt.Sprintf("-%s.%s", digits(1+random.IntN(300)), digits(1+random.IntN(500))))
	}
	for range 500 {
		of := random.Uint64N(math.Float64bits(math.MaxFloat64))
		if random.IntN(2) == 0 {
			of &= 1<<54 - 1 // few bits
		}
		text := halfWay(of)
		mantissa, exponent, _ := strings.Cut(text, "e")
		checkDouble(t, text)
		checkDouble(t, mantissa+"1e"+exponent)
		checkDouble(t, mantissa[:20]+"e"+exponent)
		checkDouble(t, mantissa[:20]+strings.Repeat("9", 700)+"e"+exponent)
	}
	for _, text := range []string{halfWay(0), halfWay(1), halfWay(1<<52 - 1), halfWay(1 << 52), halfWay(math.Float64bits(math.MaxFloat64) - 1),
		"9999999999999999999999e-330", "99999999999999999999", "1" + strings.Repeat("0", 290) + strings.Repeat("5", 19)} {
		checkDouble(t, text)
	}
}

// BenchmarkNumber shows that a byte of a number costs about the same whatever number it is.
func BenchmarkNumber(b *testing.B) {
	mantissa, exponent, _ := strings.Cut(halfWay(12345678901), "e")
	for _, tc := range []struct{ name, text string }{
		{"short", "75"}, {"plain", "40.712776"}, {"15 digits", "-74.0060123456789"}, {"17 digits", "40.712775999999998"},
		{"snowflake", "653247040368672768"}, {"identifier", "1234567890123456789"}, {"subnormal", "5e-324"},
		{"subnormal of 20 digits", "1.2345678901234567891e-310"}, {"least normal", "2.2250738585072011e-308"},
		{"half-way", "4503599627370497.5"}, {"half-way and more", "9007199254740993.00000000000000000001"},
		{"half-way, all digits", mantissa + "e" + exponent},
	} {
		b.Run(tc.name, func(b *testing.B) {
			in := []byte(tc.text)
			var out []byte
			var scratch digits
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for range b.N {
				out = appendNumber(out[:0], in, &scratch)
			}
		})
	}
}
