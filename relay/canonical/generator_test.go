package canonical

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// generator makes sound JSON at random, odd on purpose.
type generator struct{ *rand.Rand }

func (g *generator) value(dst []byte, depth int) []byte {
	dst = g.space(dst)
	switch n := g.IntN(10); {
	case n < 3 && depth > 0:
		dst = append(dst, '[')
		for i := range g.IntN(5) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = g.value(dst, depth-1)
		}
		dst = append(g.space(dst), ']')
	case n < 7 && depth > 0:
		dst = append(dst, '{')
		var names []string
		size := g.IntN(7)
		if g.IntN(20) == 0 {
			size = 3 * fewMembers
		}
		for range size {
			name := g.name()
			if slices.Contains(names, name) {
				continue
			}
			if len(names) > 0 {
				dst = append(dst, ',')
			}
			names = append(names, name)
			dst = append(g.space(g.text(g.space(dst), name)), ':')
			dst = g.value(dst, depth-1)
		}
		dst = append(g.space(dst), '}')
	case n < 8:
		dst = append(dst, []string{"true", "false", "null"}[g.IntN(3)]...)
	case n < 9:
		dst = g.text(dst, g.characters(20))
	default:
		dst = g.number(dst)
	}
	return g.space(dst)
}

func (g *generator) space(dst []byte) []byte {
	for g.IntN(6) == 0 {
		dst = append(dst, " \t\r\n"[g.IntN(4)])
	}
	return dst
}

func (g *generator) name() string {
	switch g.IntN(6) {
	case 0, 1:
		return strconv.Itoa(g.IntN(30))
	case 2:
		return strconv.FormatUint(1<<32-4+g.Uint64N(8), 10)
	case 3:
		return []string{"", "01", "-0", "1e3", "__proto__", "id", "data", "toJSON", "+1", "1.0"}[g.IntN(10)]
	default:
		return g.characters(12)
	}
}

func (g *generator) characters(most int) string {
	var b strings.Builder
	for range g.IntN(most + 1) {
		switch g.IntN(9) {
		case 0:
			b.WriteByte(byte(g.IntN(0x20)))
		case 1:
			b.WriteByte("\"\\/bfnrtu\x7f"[g.IntN(10)])
		case 2:
			b.WriteRune(rune(0x80 + g.IntN(0x780)))
		case 3:
			b.WriteRune([]rune{0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0xD7FF, 0xE000, 0x800, 0x10000, 0x10FFFF}[g.IntN(11)])
		case 4:
			b.WriteRune(rune(0x10000 + g.IntN(0x100000)))
		default:
			b.WriteByte(byte(' ' + g.IntN(0x5F)))
		}
	}
	return b.String()
}

// text writes s as a string, each character in one of the ways that JSON has for it.
func (g *generator) text(dst []byte, s string) []byte {
	escaping := g.IntN(3) == 0
	dst = append(dst, '"')
	for _, r := range s {
		short := strings.IndexRune("\"\\/\b\f\n\r\t", r)
		switch must := r < ' ' || r == '"' || r == '\\'; {
		case short >= 0 && (must || escaping) && g.IntN(3) > 0:
			dst = append(dst, '\\', "\"\\/bfnrt"[short])
		case must || escaping && g.IntN(2) == 0:
			form := []string{`\u%04x`, `\u%04X`}[g.IntN(2)]
			if r >= 0x10000 {
				dst = fmt.Appendf(dst, form, 0xD800+(r-0x10000)>>10)
				r = 0xDC00 + (r-0x10000)&0x3FF
			}
			dst = fmt.Appendf(dst, form, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

func (g *generator) number(dst []byte) []byte {
	if g.IntN(3) == 0 {
		dst = append(dst, '-')
	}
	switch g.IntN(6) {
	case 0: // an integer
		return g.integer(dst, 1+g.IntN(26))
	case 1: // a double, in one of many ways
		f := math.Float64frombits(g.Uint64() >> 1)
		if g.IntN(2) == 0 {
			f = float64(g.Uint64()) / float64(uint64(1)<<g.IntN(64))
		}
		if math.IsInf(f, 0) || math.IsNaN(f) {
			f = 0
		}
		return strconv.AppendFloat(dst, f, "efg"[g.IntN(3)], []int{-1, 5, 15, 16, 17, 20}[g.IntN(6)], 64)
	case 2: // half-way between two doubles, and at times a little more
		f := math.Float64frombits(0x4330000000000000 + g.Uint64()>>g.IntN(60)&(1<<52-1))
		half, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', 1, 64))
		shift := new(big.Rat).SetFrac64(1, 1<<g.IntN(40))
		half.Add(half, big.NewRat(1, 2)).Mul(half, shift)
		dst = append(dst, half.FloatString(45)...)
		return append(dst, []string{"", "1", "0000000000000000000000000001"}[g.IntN(3)]...)
	}
	dst = g.integer(dst, 1+g.IntN(18))
	if g.IntN(2) == 0 {
		dst = append(dst, '.')
		for range 1 + g.IntN(22) {
			dst = append(dst, "0001234567899"[g.IntN(13)])
		}
	}
	if g.IntN(2) == 0 {
		dst = append(dst, []string{"e", "E", "e+", "e-", "E-0"}[g.IntN(5)]...)
		dst = strconv.AppendInt(dst, g.Int64N([]int64{10, 30, 350}[g.IntN(3)]), 10)
	}
	return dst
}

func (g *generator) integer(dst []byte, length int) []byte {
	if g.IntN(8) == 0 {
		return append(dst, '0')
	}
	dst = append(dst, byte('1'+g.IntN(9)))
	zeros := g.IntN(3) == 0
	for range length - 1 {
		if zeros && g.IntN(8) > 0 {
			dst = append(dst, '0')
		} else {
			dst = append(dst, byte('0'+g.IntN(10)))
		}
	}
	return dst
}

// damaged is a copy of text with a byte or two changed, put in, taken out, or with its end missing.
func (g *generator) damaged(text []byte) []byte {
	text = bytes.Clone(text)
	const bytesThatMatter = "\"\"\\\\{}[],::0123456789.eE+-truefalsn \n\t\x00\x1f\x80\xff\xed\xc3u/"
	for range 1 + g.IntN(2) {
		if len(text) == 0 {
			break
		}
		at, b := g.IntN(len(text)), bytesThatMatter[g.IntN(len(bytesThatMatter))]
		switch g.IntN(4) {
		case 0:
			text[at] = b
		case 1:
			text = slices.Insert(text, at, b)
		case 2:
			text = slices.Delete(text, at, at+1)
		case 3:
			text = text[:at]
		}
	}
	return text
}
