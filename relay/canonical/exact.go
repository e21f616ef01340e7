package canonical

import (
	"cmp"
	"math"
	"math/bits"
	"strconv"
)

const (
	// wordDigits is how many decimal digits fit into 64 bits whatever they are.
	wordDigits = 19
	// leastNormal is the smallest decimal.point from which on every number is far from those doubles that have fewer bits
	// than the others, for which strconv.ParseFloat takes its long way (14 µs).
	leastNormal = -306
	// raised is by how many powers of ten a number below leastNormal is raised to be estimated.
	raised = 30
)

// float is the double nearest to d without its sign, 0 or infinite when that is out of range. d.digits are in scratch.
// Numbers of more digits than strconv.ParseFloat takes on its short way, and those where doubles have fewer bits, are
// estimated and then compared, in whole numbers, with what lies half-way to the estimate's neighbours.
func (d decimal) float(scratch *digits) float64 {
	var first uint64
	n := min(len(d.digits), wordDigits)
	for _, b := range d.digits[:n] {
		first = first*10 + uint64(b-'0')
	}
	if d.point < leastNormal {
		return d.nearest(parse(first, d.point-n+raised)/1e30, scratch)
	}
	f := parse(first, d.point-n)
	if d.count > n && parse(first+1, d.point-n) != f {
		return d.nearest(f, scratch)
	}
	return f
}

// parse is the double nearest to n × 10^exponent.
func parse(n uint64, exponent int) float64 {
	var buf [32]byte
	text := append(strconv.AppendUint(buf[:0], n, 10), 'e')
	f, _ := strconv.ParseFloat(string(strconv.AppendInt(text, int64(exponent), 10)), 64) // out of range is told by f
	return f
}

// nearest is the double nearest to d, found from one that is near. Of two that are as near it is the even one.
func (d decimal) nearest(near float64, scratch *digits) float64 {
	n := len(d.digits)
	if d.count > n {
		scratch[n] = '1' // what was cut off is not zero, since the last significant digit isn't
		n++
	}
	var value, power whole
	value.setDigits(scratch[:n])
	down := n - d.point // d is value / 10^down
	for ; down < 0; down++ {
		value.multiply(10, 0)
	}
	power.setPowerOfFive(down)
	at := math.Float64bits(near)
	for s := value.sideOfHalf(&power, down, at); s > 0 || s == 0 && at&1 == 1; s = value.sideOfHalf(&power, down, at) {
		at++
	}
	for at > 0 {
		s := value.sideOfHalf(&power, down, at-1)
		if s > 0 || s == 0 && at&1 == 0 {
			break
		}
		at--
	}
	return math.Float64frombits(at)
}

// sideOfHalf compares v / 10^down with what lies half-way between the double of these bits and the next larger one: -1, 0
// or 1. power is 5^down.
func (v *whole) sideOfHalf(power *whole, down int, of uint64) int {
	fraction, exponent := of&(1<<52-1), int(of>>52)
	if exponent > 0 {
		fraction |= 1 << 52
	} else {
		exponent = 1
	}
	// half-way is (2 × fraction + 1) × 2^(exponent - 1076); both sides are multiplied by 10^down.
	half, value := *power, *v
	half.multiply(2*fraction+1, 0)
	if shift := exponent - 1076 + down; shift >= 0 {
		half.shift(shift)
	} else {
		value.shift(-shift)
	}
	return value.compare(&half)
}

// whole is a whole number that is large enough for all that is compared: keptDigits and one more digits, beside the powers
// of two and of five that those are divided by.
type whole struct {
	words [52]uint64 // the least significant first
	n     int        // words that are used
}

// multiply makes w × by + plus of w.
func (w *whole) multiply(by, plus uint64) {
	for i := range w.words[:w.n] {
		high, low := bits.Mul64(w.words[i], by)
		var carry uint64
		w.words[i], carry = bits.Add64(low, plus, 0)
		plus = high + carry
	}
	if plus > 0 {
		w.words[w.n] = plus
		w.n++
	}
}

func (w *whole) shift(left int) {
	words, bits := left/64, uint(left%64)
	for i := w.n; i >= 0; i-- {
		var word uint64
		if i < w.n {
			word = w.words[i] << bits
		}
		if i > 0 && bits > 0 {
			word |= w.words[i-1] >> (64 - bits)
		}
		w.words[i+words] = word
	}
	clear(w.words[:words])
	w.n += words + 1
	for w.n > 0 && w.words[w.n-1] == 0 {
		w.n--
	}
}

func (w *whole) compare(o *whole) int {
	if c := cmp.Compare(w.n, o.n); c != 0 {
		return c
	}
	for i := w.n - 1; i >= 0; i-- {
		if c := cmp.Compare(w.words[i], o.words[i]); c != 0 {
			return c
		}
	}
	return 0
}

// setDigits reads decimal digits.
func (w *whole) setDigits(text []byte) {
	for len(text) > 0 {
		n, power, word := min(len(text), wordDigits), uint64(1), uint64(0)
		for _, b := range text[:n] {
			word, power = word*10+uint64(b-'0'), power*10
		}
		w.multiply(power, word)
		text = text[n:]
	}
}

// setPowerOfFive makes 5^exponent.
func (w *whole) setPowerOfFive(exponent int) {
	const most, fives = 27, 7450580596923828125 // 5^27 is the largest that fits into a word
	w.words[0], w.n = 1, 1
	for ; exponent >= most; exponent -= most {
		w.multiply(fives, 0)
	}
	for ; exponent > 0; exponent-- {
		w.multiply(5, 0)
	}
}
