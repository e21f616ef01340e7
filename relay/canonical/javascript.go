package canonical

import "bytes"

// AppendJavaScript appends an event's canonical form with its numbers as JavaScript writes what it makes of them: those
// that keep their own text lose what a double does not hold, and one that is infinite becomes null.
func AppendJavaScript(dst, form []byte) []byte {
	var scratch digits
	from := 0
	eachNumber(form, func(start, end int) bool {
		dst = append(dst, form[from:start]...)
		dst = appendDouble(dst, form[start:end], &scratch)
		from = end
		return true
	})
	return append(dst, form[from:]...)
}

// KeptNumber is the first number of an event's canonical form that keeps its own text because JavaScript's would be another
// number, so that the documented receiver finds the signature wrong; nil without one. It is part of form.
func KeptNumber(form []byte) (kept []byte) {
	var scratch digits
	var room [32]byte
	eachNumber(form, func(start, end int) bool {
		if text := form[start:end]; !bytes.Equal(text, appendDouble(room[:0], text, &scratch)) {
			kept = text
		}
		return kept == nil
	})
	return kept
}

// eachNumber tells where the numbers of a canonical form are, until tell reports false.
func eachNumber(form []byte, tell func(start, end int) bool) {
	for at := 0; at < len(form); {
		switch b := form[at]; {
		case b == '"':
			at = stringEnd(form, at)
		case b == '-' || isDigit(b):
			start := at
			for at < len(form) && form[at] != ',' && form[at] != '}' && form[at] != ']' {
				at++
			}
			if !tell(start, at) {
				return
			}
		default:
			at++
		}
	}
}

// stringEnd is where the string that starts at from has ended.
func stringEnd(form []byte, from int) int {
	for at := from + 1; at < len(form); {
		at, _ = plainRun(form, at)
		switch {
		case at < len(form) && form[at] == '\\':
			at += 2
		default:
			return at + 1
		}
	}
	return len(form)
}
