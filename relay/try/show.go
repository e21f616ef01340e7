package try

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of what is shown of one event, so that a huge one doesn't flood the terminal: bytes of the body as printed,
// levels of indentation, and bytes of one header's value.
const (
	shownBody   = 64 << 10
	shownIndent = 32
	shownHeader = 255 // an event id
)

// palette colours text for a terminal, or leaves it as it is when false.
type palette bool

// The colours, as ANSI "select graphic rendition" parameters.
const (
	bold   = "1"
	red    = "1;31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// paletteOf is true for a terminal, unless NO_COLOR (no-color.org) or TERM=dumb ask for plain text.
func paletteOf(w io.Writer) palette {
	return palette(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// isTerminal reports whether stream is a character device: a terminal, or /dev/null, where it makes no difference.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p palette) in(color, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// harmless is text from the network as one line that is safe to print, cut to shownHeader bytes.
func harmless(text string) string {
	cut := ""
	if len(text) > shownHeader {
		text, cut = text[:shownHeader], "…"
	}
	return string(appendHarmless(nil, []byte(text), false)) + cut
}

// appendHarmless appends text with everything escaped that a terminal would act on instead of showing: control
// characters, C1 included, invalid UTF-8, and what is invisible or turns the direction of text. Line breaks and tabs
// stay when lines is set. The escapes are those of JSON, but for \x of bytes that are no text.
func appendHarmless(dst, text []byte, lines bool) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case unicode.IsPrint(r), lines && (r == '\n' || r == '\t'):
			dst = append(dst, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return dst
}

// appendBody appends an event's body for reading: JSON indented, anything else as it is, both harmless.
func appendBody(dst, body []byte, p palette) []byte {
	if json.Valid(body) {
		return appendJSON(dst, body, p)
	}
	if len(body) == 0 {
		return append(dst, "(no body)\n"...)
	}
	shown := body[:min(len(body), shownBody)]
	dst = append(dst, p.in(red, "(not JSON)")...)
	dst = append(dst, '\n')
	dst = appendHarmless(dst, shown, true)
	return appendRest(dst, len(body)-len(shown))
}

// appendRest ends the text of a body, of which rest bytes were left out.
func appendRest(dst []byte, rest int) []byte {
	if rest > 0 {
		dst = fmt.Appendf(dst, " … (%d bytes more)", rest)
	}
	return append(dst, '\n')
}

// appendJSON indents body, which must be valid JSON. Tokens keep their text, so what is shown is what was signed but
// for white space and what had to be made harmless.
func appendJSON(dst, body []byte, p palette) []byte {
	start, depth := len(dst), 0
	line := func() {
		dst = append(dst, '\n')
		dst = append(dst, bytes.Repeat([]byte("  "), min(depth, shownIndent))...)
	}
	for i := 0; i < len(body); {
		if len(dst)-start > shownBody {
			return appendRest(dst, len(body)-i)
		}
		switch c := body[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '{', '[':
			dst = append(dst, c)
			if end := afterSpace(body, i+1); body[end] == '}' || body[end] == ']' {
				dst = append(dst, body[end])
				i = end + 1
				continue
			}
			depth++
			line()
			i++
		case '}', ']':
			depth--
			line()
			dst = append(dst, c)
			i++
		case ',':
			dst = append(dst, c)
			line()
			i++
		case ':':
			dst = append(dst, ": "...)
			i++
		default:
			end := tokenEnd(body, i)
			color := yellow
			if c == '"' {
				color = green
				if next := afterSpace(body, end); next < len(body) && body[next] == ':' {
					color = cyan
				}
			}
			token := string(appendHarmless(nil, body[i:min(end, i+shownBody)], false))
			if end > i+shownBody {
				token += "…"
			}
			dst = append(dst, p.in(color, token)...)
			i = end
		}
	}
	return append(dst, '\n')
}

// afterSpace is the index of the first byte at or after i that isn't white space, or len(body).
func afterSpace(body []byte, i int) int {
	for i < len(body) && (body[i] == ' ' || body[i] == '\t' || body[i] == '\r' || body[i] == '\n') {
		i++
	}
	return i
}

// tokenEnd is the index after the string, number or word that begins at i in valid JSON.
func tokenEnd(body []byte, i int) int {
	if body[i] != '"' {
		if n := bytes.IndexAny(body[i:], ",]}: \t\r\n"); n >= 0 {
			return i + n
		}
		return len(body)
	}
	for i++; body[i] != '"'; i++ {
		if body[i] == '\\' {
			i++
		}
	}
	return i + 1
}
