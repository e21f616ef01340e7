package canonical

import (
	"bytes"
	"math"
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
const keptDigits = 799

// digits is scratch: the kept digits, and one for the rest.
type digits [keptDigits + 1]byte

// decimal is what the text of a number says: 0.digits × 10^point, without the sign.
type decimal struct {
	negative bool
	digits   []byte // significant: from the first to the last that is not 0, at most keptDigits
	count    int    // how many there would be without that limit; 0 for zero
	point    int
}

// longestNumber is the most bytes that appendNumber appends of a number that does not keep its own text.
const longestNumber = 26

// shortestDigits is the most significant digits that the shortest text of a double has.
const shortestDigits = 17

// appendNumber appends a number, whose text is valid JSON, as JavaScript writes the double that the text means
// (ECMA-262, Number::toString in base 10). Two kinds keep their own text, because that one would be another number:
//   - integers, however they are written, that JavaScript's text does not have the value of: 9007199254740993, which no
//     double holds, and 653247040368672768, which one does and JavaScript writes as 653247040368672800;
//   - numbers beyond the range of a double, which JavaScript takes for infinite or for zero: 1e400, 1e-400.
//
// The time it takes grows with the length of the text alone, not with the number that it means.
func appendNumber(dst, text []byte, scratch *digits) []byte {
	d := readDecimal(text, scratch)
	if d.isInteger() && d.count > shortestDigits {
		return append(dst, text...)
	}
	var buf [32]byte
	switch means, in := d.means(buf[:0], scratch); {
	case in != inRange || d.isInteger() && !d.equal(means):
		return append(dst, text...)
	default:
		return means.appendTo(dst)
	}
}

// appendDouble appends a number, whose text is valid JSON, as JavaScript writes what it makes of it, whatever is lost: of
// one that is infinite to it, it makes null.
func appendDouble(dst, text []byte, scratch *digits) []byte {
	d := readDecimal(text, scratch)
	var buf [32]byte
	switch means, in := d.means(buf[:0], scratch); in {
	case aboveRange:
		return append(dst, "null"...)
	case belowRange:
		return append(dst, '0')
	default:
		return means.appendTo(dst)
	}
}

// isInteger reports whether d is a whole number that is not zero.
func (d decimal) isInteger() bool { return 0 < d.count && d.count <= d.point }

// Where a number lies.
const (
	inRange    = iota
	aboveRange // beyond the largest double
	belowRange // nearer to zero than to the smallest one
)

// means is the decimal that JavaScript writes for the double nearest to d. Its digits are in buf or in scratch.
func (d decimal) means(buf []byte, scratch *digits) (means decimal, in int) {
	switch {
	case d.count == 0:
		return decimal{digits: zero, count: 1, point: 1}, inRange
	case d.point > 309:
		return d, aboveRange
	case d.point < -323:
		return d, belowRange
	case d.count <= exactDigits && -shortRange < d.point && d.point < shortRange:
		return d, inRange
	}
	f := d.float(scratch)
	switch {
	case f == 0:
		return d, belowRange
	case math.IsInf(f, 0):
		return d, aboveRange
	}
	means = shortest(buf, f)
	means.negative = d.negative
	return means, inRange
}

var zero = []byte("0")

// readDecimal takes a valid number apart. The digits it returns are in scratch.
func readDecimal(text []byte, scratch *digits) decimal {
	var d decimal
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
