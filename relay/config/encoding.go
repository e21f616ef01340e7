package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Misencoded says how the text of a file was saved by an editor that meant it well, as a predicate with what to do, or "".
// A key or a certificate that is read with what such an editor adds is another one.
func Misencoded(text string) string {
	switch {
	case strings.HasPrefix(text, "\uFEFF"):
		return "begins with a byte order mark: save it as UTF-8 without one (sed -i '1s/^\\xEF\\xBB\\xBF//' FILE)"
	case IsUTF16(text):
		return "is in UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"
	}
	return ""
}

// IsUTF16 reports whether a text begins as one in UTF-16 does: with its byte order mark, or with Latin letters.
func IsUTF16(text string) bool {
	return strings.HasPrefix(text, "\xFE\xFF") || strings.HasPrefix(text, "\xFF\xFE") || isWide(text, 0) || isWide(text, 1)
}

// isWide reports whether every other byte from one on is zero, as in UTF-16 all Latin letters have it.
func isWide(text string, from int) bool {
	text = text[:min(len(text), 64)&^1]
	for i := from; i < len(text); i += 2 {
		if text[i] != 0 || text[i^1] == 0 {
			return false
		}
	}
	return len(text) >= 4
}

// unseen names the first character of a text that nobody sees, such as a zero-width space, and its place, as the object of a
// sentence; "" when all can be seen. It tells nothing else of the text.
func unseen(text string) string {
	for i, r := range text {
		if r != ' ' && (r != utf8.RuneError && unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs)) {
			return fmt.Sprintf("%U at byte %d, which nobody sees", r, i+1)
		}
	}
	return ""
}

// holding completes the reason why a text may not be: it names the character that nobody sees in it, if there is one.
func holding(text string) string {
	if what := unseen(text); what != "" {
		return "; it holds " + what + ": type it anew"
	}
	return ""
}

// quoted reports whether a text stands in quotes of its own, straight or curly.
func quoted(text string) bool {
	first, a := utf8.DecodeRuneInString(text)
	last, b := utf8.DecodeLastRuneInString(text)
	return len(text) > a+b && isQuote(first) && isQuote(last)
}

func isQuote(r rune) bool { return strings.ContainsRune("\"'`", r) || IsCurlyQuote(r) }

// IsCurlyQuote reports whether r is a quote of a word processor, which takes no part in any notation.
func IsCurlyQuote(r rune) bool { return strings.ContainsRune("“”„‟‘’‚‛«»‹›", r) }
