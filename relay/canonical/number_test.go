package canonical

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestNumbersTakeJavaScriptsText(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("0", n) }
	cases := []struct{ in, want string }{
		{"0", "0"}, {"-0", "0"}, {"-0.0", "0"}, {"0e5", "0"}, {"-0E-999999999999", "0"}, {"0.000", "0"},
		{"1", "1"}, {"-7", "-7"}, {"999999999999999", "999999999999999"}, {"-123456789012345", "-123456789012345"},
		{"1.0", "1"}, {"1e3", "1000"}, {"1E3", "1000"}, {"1e+3", "1000"}, {"1.50", "1.5"}, {"-2.5e-1", "-0.25"},
		{"10.0e-1", "1"}, {"1e00005", "100000"}, {"1e-00005", "0.00001"}, {"0.1e1", "1"},
		{"40.712776", "40.712776"}, {"40.712775999999998", "40.712776"}, {"-74.0060", "-74.006"},
		{"0.1", "0.1"}, {"0.30000000000000004", "0.30000000000000004"}, {"0.3000000000000000444", "0.30000000000000004"},
		{"3.14159265358979323846264338327950288", "3.141592653589793"},
		{"0.000001", "0.000001"}, {"0.0000001", "1e-7"}, {"0.00000123", "0.00000123"}, {"0.000000123", "1.23e-7"},
		{"123456.7e-12", "1.234567e-7"},
		{"1e20", "100000000000000000000"}, {"1e21", "1e+21"}, {"1.5e21", "1.5e+21"}, {"123e20", "1.23e+22"},
		{"100000000000000000000", "100000000000000000000"}, {"1000000000000000000000", "1e+21"},
		{"-1000000000000000000000", "-1e+21"}, {"123456789012345680000", "123456789012345680000"},
		{"5e-324", "5e-324"}, {"3e-324", "5e-324"}, {"2.5e-324", "5e-324"}, {"4.9406564584124654e-324", "5e-324"},
		{"2.2250738585072014e-308", "2.2250738585072014e-308"}, {"2.225073858507201e-308", "2.225073858507201e-308"},
		{"1.7976931348623157e308", "1.7976931348623157e+308"},
		{"1e300", "1e+300"}, {"1e308", "1e+308"}, {"1e-308", "1e-308"}, {"123456789012345e-320", "1.23456789012345e-306"},
		// JavaScript's text is the same integer.
		{"9007199254740992", "9007199254740992"}, {"9007199254740994", "9007199254740994"},
		{"10000000000000000000000", "1e+22"}, {"653247040368672800", "653247040368672800"},
		{"1" + zeros(23), "1e+23"}, {"1" + zeros(308), "1e+308"}, {"12345678901234567000", "12345678901234567000"},
		// A double is exact, and JavaScript's text of it is another integer.
		{"9223372036854775808", "9223372036854775808"}, {"18446744073709551616", "18446744073709551616"},
		{"144115188075855872", "144115188075855872"}, {"653247040368672768", "653247040368672768"},
		{"-653247040368672768.0", "-653247040368672768.0"}, {"653247040368672768e0", "653247040368672768e0"},
		// Integers that no double holds.
		{"9007199254740993", "9007199254740993"}, {"-9007199254740993", "-9007199254740993"},
		{"12345678901234567890", "12345678901234567890"}, {"9223372036854775807", "9223372036854775807"},
		{"18446744073709551615", "18446744073709551615"}, {"18446744073709551617", "18446744073709551617"},
		{"1" + zeros(309), "1" + zeros(309)}, {"12345678901234567001", "12345678901234567001"},
		// Integers with a point or an exponent.
		{"12345678901234567890.0", "12345678901234567890.0"}, {"1e23", "1e+23"}, {"9007199254740993.0", "9007199254740993.0"},
		{"9007199254740992.0", "9007199254740992"}, {"9007199254740993e0", "9007199254740993e0"},
		{"900719925474099300E-2", "900719925474099300E-2"}, {"9007199254740992.5", "9007199254740992"},
		{"1.7976931348623158e308", "1.7976931348623158e308"}, {"100000000000000000000000.0", "1e+23"},
		{"1.2345678901234567891e2", "123.45678901234568"},
		// Out of range.
		{"1e400", "1e400"}, {"-1E+400", "-1E+400"}, {"1.7976931348623159e308", "1.7976931348623159e308"},
		{"1e309", "1e309"}, {"2e308", "2e308"}, {"1e-400", "1e-400"}, {"2e-324", "2e-324"}, {"-1.0e-323999", "-1.0e-323999"},
		{"2.4703282292062327e-324", "2.4703282292062327e-324"}, {"2.4703282292062328e-324", "5e-324"},
	}
	for _, tc := range cases {
		got, f, ok := canonicalForm([]byte(tc.in))
		if !ok || string(got) != tc.want {
			t.Errorf("%.60s became %.60s (%s), want %.60s", tc.in, got, f.text(0), tc.want)
		}
	}
}

func TestAbsurdNumbersCostLittle(t *testing.T) {
	const million = 1_000_000
	zeros, nines := strings.Repeat("0", million), strings.Repeat("9", million)
	const half = "4503599627370497.5" // half-way between two doubles: goes to the even one
	cases := []struct{ name, in, want string }{
		{"huge exponent", "1e999999999999", "1e999999999999"},
		{"exponent beyond an int", "1e" + nines, "1e" + nines},
		{"exponent below an int", "-1e-" + nines, "-1e-" + nines},
		{"huge exponent of zero", "0e" + nines, "0"},
		{"long exponent", "1e" + zeros + "5", "100000"},
		{"long integer", "1" + zeros, "1" + zeros},
		{"long fraction", "0." + nines, "1"},
		{"zeros behind the point", "1." + zeros, "1"},
		{"zeros made up for", "0." + zeros + "1e1000001", "1"},
		{"digits made up for", "1" + zeros + ".5e-1000000", "1"},
		{"half-way", half, "4503599627370498"},
		{"half-way exactly", "0.50000000000000005551115123125782702118158340454101562500" + zeros, "0.5"},
		{"half-way and a little more", "0.500000000000000055511151231257827021181583404541015625" + zeros + "1", "0.5000000000000001"},
		{"half-way to the odd one", "4503599627370496.5" + zeros, "4503599627370496"},
		{"half-way to the odd one and a little more", "4503599627370496.5" + zeros + "1", "4503599627370497"},
		{"long and tiny", "0." + zeros + "1", "0." + zeros + "1"},
	}
	for _, tc := range cases {
		in := []byte(tc.in)
		out := make([]byte, 0, len(in))
		var scratch digits
		allocs := math.Inf(1)
		for range 5 { // what else goes on in the process counts, too
			allocs = min(allocs, testing.AllocsPerRun(1, func() { out = appendNumber(out[:0], in, &scratch) }))
		}
		if string(out) != tc.want {
			t.Errorf("%s: became %.40s (%d bytes), want %.40s (%d bytes)", tc.name, out, len(out), tc.want, len(tc.want))
		}
		if allocs > 4 {
			t.Errorf("%s: %v allocations", tc.name, allocs)
		}
	}
}

func TestEveryDigitOfAHalfWayNumberCounts(t *testing.T) {
	// (2^54-1) * 2^-1075 lies half-way between two doubles, of which the upper one is even, and has 768 digits.
	half := new(big.Float).SetMantExp(new(big.Float).SetInt64(1<<54-1), -1075).Text('e', 767)
	if !strings.HasSuffix(half, "5e-308") {
		t.Fatalf("not the number meant: %s", half)
	}
	digits := strings.TrimSuffix(half, "5e-308")
	for _, tc := range []struct{ in, want string }{
		{half, "4.450147717014403e-308"},
		{digits + "4" + strings.Repeat("9", 100) + "e-308", "4.4501477170144023e-308"},
		{digits + "50" + strings.Repeat("0", 100) + "1e-308", "4.450147717014403e-308"},
	} {
		if got, _, _ := canonicalForm([]byte(tc.in)); string(got) != tc.want {
			t.Errorf("%s became %s, want %s", tc.in, got, tc.want)
		}
	}
}
