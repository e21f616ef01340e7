package ingest

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"
)

// exactDigits is the number of significant digits up to which a decimal survives the way through a double and back: no
// two such decimals share a double, so the shortest text of the double is the decimal itself. Short of the ends of the
// double's range, that is: see shortRange.
const exactDigits = 15

// shortRange keeps the numbers of exactDigits digits clear of overflow and of the doubles that have fewer bits.
const shortRange = 300

// keptDigits is how many significant digits of a number are looked at. The double nearest to a number, and whether it
// lies half-way between two, shows in its first 768 digits; all further ones together only say "and a little more".
// With the one digit that says so there must be no more than 800: strconv.ParseFloat drops digits beyond those, and then
// takes an integer for smaller than it is.
const keptDigits = 799

// digits is scratch: the kept digits, one for the rest, and an exponent.
type digits [keptDigits + 1 + 24]byte

// decimal is what the text of a number says: 0.digits × 10^point, without the sign.
type decimal struct {
	negative bool
	plain    bool   // written without point and exponent
	digits   []byte // significant: from the first to the last that is not 0, at most keptDigits
	count    int    // how many there would be without that limit; 0 for zero
	point    int
}

// appendNumber appends a number, whose text is valid JSON, as JavaScript writes the double that the text means
// (ECMA-262, Number::toString in base 10). Three kinds keep their own text, because that one would be another number:
//   - integers in plain digits that no double holds exactly: 9007199254740993;
//   - integers written with a point or an exponent for which JavaScript would write another number:
//     12345678901234567890.0, but not 1e23, which becomes 1e+23;
//   - numbers beyond the range of a double, which JavaScript takes for infinite or for zero: 1e400, 1e-400.
//
// The time it takes grows with the length of the text alone, not with the number that it means.
func appendNumber(dst, text []byte, scratch *digits) []byte {
	d := readDecimal(text, scratch)
	switch {
	case d.count == 0:
		return append(dst, '0')
	case d.point > 309 || d.point < -323:
		return append(dst, text...)
	case d.plain:
		if !d.exact(text, scratch) {
			return append(dst, text...)
		}
	case d.count <= exactDigits && -shortRange < d.point && d.point < shortRange:
		return d.appendTo(dst)
	}
	f := d.float(scratch)
	if f == 0 || math.IsInf(f, 0) {
		return append(dst, text...)
	}
	var buf [32]byte
	short := shortest(buf[:0], f)
	short.negative = d.negative
	if !d.plain && d.count <= d.point && !d.equal(short) {
		return append(dst, text...)
	}
	return short.appendTo(dst)
}

// readDecimal takes a valid number apart. The digits it returns are in scratch.
func readDecimal(text []byte, scratch *digits) decimal {
	d := decimal{plain: true}
	if text[0] == '-' {
		d.negative = true
		text = text[1:]
	}
	// whole counts the digits before the point, leading the zeros in front of the first significant digit, seen the
	// digits from that one on.
	whole, leading, seen := -1, 0, 0
	i := 0
mantissa:
	for ; i < len(text); i++ {
		switch b := text[i]; {
		case b == '.':
			d.plain = false
			whole = i
		case b == 'e' || b == 'E':
			break mantissa
		case b == '0' && seen == 0:
			leading++
		default:
			if seen < keptDigits {
				scratch[seen] = b
			}
			seen++
			if b != '0' {
				d.count = seen
			}
		}
	}
	if whole < 0 {
		whole = i
	}
	d.digits = scratch[:min(d.count, keptDigits)]
	d.point = whole - leading
	if i < len(text) {
		d.plain = false
		d.point += readExponent(text[i+1:])
	}
	return d
}

// readExponent reads what follows the e of a number. An exponent of more than 2^27 stays there, which an int of 32 bits
// holds ten times: no text is long enough to make up for it.
func readExponent(text []byte) int {
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	n := 0
	for _, b := range text {
		n = min(n*10+int(b-'0'), 1<<27)
	}
	if negative {
		return -n
	}
	return n
}

// exact reports whether a double holds the integer d, whose text is plain digits and below 10^309, exactly.
func (d decimal) exact(text []byte, scratch *digits) bool {
	if d.negative {
		text = text[1:]
	}
	if len(text) <= 19 {
		var n uint64
		for _, b := range text {
			n = n*10 + uint64(b-'0')
		}
		return bits.Len64(n)-bits.TrailingZeros64(n) <= 53
	}
	f := d.float(scratch)
	if math.IsInf(f, 0) {
		return false
	}
	var buf [310]byte
	return bytes.Equal(strconv.AppendFloat(buf[:0], f, 'f', 0, 64), text)
}

// float is the double nearest to d without its sign, 0 or infinite when that is out of range. d.digits are in scratch.
func (d decimal) float(scratch *digits) float64 {
	n := len(d.digits)
	if d.count > n {
		scratch[n] = '1' // what was cut off is not zero, since the last significant digit isn't
		n++
	}
	text := append(scratch[:n], 'e')
	text = strconv.AppendInt(text, int64(d.point-n), 10)
	f, _ := strconv.ParseFloat(string(text), 64) // the syntax is sound; out of range is told by f
	return f
}

// shortest is the decimal with the fewest digits that means f, which is positive. Its digits are in buf.
func shortest(buf []byte, f float64) decimal {
	text := strconv.AppendFloat(buf, f, 'e', -1, 64) // d.ddde±dd
	e := bytes.IndexByte(text, 'e')
	point := readExponent(text[e+1:]) + 1
	n := 1 + copy(text[1:], text[min(2, e):e])
	return decimal{digits: text[:n], count: n, point: point}
}

// equal reports whether d and o are the same number but for the sign. o has all its digits.
func (d decimal) equal(o decimal) bool {
	return d.count == o.count && d.point == o.point && bytes.Equal(d.digits, o.digits)
}

// appendTo appends d, which has all its digits, in the layout of ECMA-262's Number::toString.
func (d decimal) appendTo(dst []byte) []byte {
	if d.negative {
		dst = append(dst, '-')
	}
	switch n := d.point; {
	case d.count <= n && n <= 21:
		dst = append(dst, d.digits...)
		return appendZeros(dst, n-d.count)
	case 0 < n && n <= 21:
		dst = append(dst, d.digits[:n]...)
		dst = append(dst, '.')
		return append(dst, d.digits[n:]...)
	case -6 < n && n <= 0:
		dst = append(dst, '0', '.')
		dst = appendZeros(dst, -n)
		return append(dst, d.digits...)
	}
	dst = append(dst, d.digits[0])
	if d.count > 1 {
		dst = append(dst, '.')
		dst = append(dst, d.digits[1:]...)
	}
	dst = append(dst, 'e')
	if d.point > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(d.point-1), 10)
}

// appendZeros appends n zeros, at most 20.
func appendZeros(dst []byte, n int) []byte {
	return append(dst, "00000000000000000000"[:n]...)
}
