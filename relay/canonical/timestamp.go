package canonical

// isTimestamp reports whether value, in canonical form, is a string that holds an RFC 3339 date-time (section 5.6). It
// is as strict as the grammar there, with the days of each month: no comma for the point, no space for the T, which may
// be small like the Z. The second 60 is allowed in any minute, for which minutes had one is not ours to know.
func isTimestamp(value []byte) bool {
	const form = `"dddd-dd-ddTdd:dd:dd`
	if len(value) < len(form) {
		return false
	}
	for i, b := range value[:len(form)] {
		switch form[i] {
		case 'd':
			if !isDigit(b) {
				return false
			}
		case 'T':
			if b != 'T' && b != 't' {
				return false
			}
		default:
			if b != form[i] {
				return false
			}
		}
	}
	year, month, day := twoDigits(value[1:])*100+twoDigits(value[3:]), twoDigits(value[6:]), twoDigits(value[9:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(month, year) {
		return false
	}
	if twoDigits(value[12:]) > 23 || twoDigits(value[15:]) > 59 || twoDigits(value[18:]) > 60 {
		return false
	}
	rest := value[len(form):]
	if len(rest) > 0 && rest[0] == '.' {
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		if n == 1 {
			return false
		}
		rest = rest[n:]
	}
	switch {
	case len(rest) == len(`Z"`):
		return rest[0] == 'Z' || rest[0] == 'z'
	case len(rest) == len(`+hh:mm"`):
		return (rest[0] == '+' || rest[0] == '-') && rest[3] == ':' &&
			isDigit(rest[1]) && isDigit(rest[2]) && isDigit(rest[4]) && isDigit(rest[5]) &&
			twoDigits(rest[1:]) <= 23 && twoDigits(rest[4:]) <= 59
	}
	return false
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// twoDigits is the number that the two digits at the start of b make.
func twoDigits(b []byte) int { return int(b[0]-'0')*10 + int(b[1]-'0') }

func daysIn(month, year int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
