package value

import "tidemark/mapping/jsontext"

// The texts read here are those of DateStyle ISO, which our sessions set:
//
//	2026-01-31
//	2026-01-31 12:00:00.5
//	2026-01-31 12:00:00.5+00
//	0044-03-15 12:00:00+00:53:28 BC
//	infinity, -infinity
//
// They become ISO 8601 with the proleptic year: 44 BC is -0043, and years
// beyond 9999 have a plus. Postgres writes at least four digits of the year.

// appendDate is for date: no time, no zone.
func appendDate(dst, text []byte) []byte {
	return appendMoment(dst, text, false, false)
}

// appendTimestamp is for timestamp without time zone.
func appendTimestamp(dst, text []byte) []byte {
	return appendMoment(dst, text, true, false)
}

// appendTimestamptz is for timestamp with time zone. The offset +00 becomes Z.
func appendTimestamptz(dst, text []byte) []byte {
	return appendMoment(dst, text, true, true)
}

// appendMoment writes a date, with a time and a zone where the type has them.
// The infinities have no ISO form: null. Any other text is kept as a string:
// the field ignores what is malformed, and the document still shows it.
func appendMoment(dst, text []byte, clock, zone bool) []byte {
	switch string(text) {
	case "infinity", "-infinity":
		return append(dst, "null"...)
	}
	rest, bc := cutBC(text)
	year := digits(rest, 0)
	if year < 4 || year > 7 || !isMonthDay(rest[year:]) {
		return jsontext.Append(dst, text)
	}
	start := len(dst)
	dst = append(dst, '"')
	dst = appendYear(dst, rest[:year], bc)
	dst = append(dst, rest[year:year+6]...)
	rest = rest[year+6:]
	if clock {
		var ok bool
		if dst, rest, ok = appendClock(dst, rest); !ok {
			return jsontext.Append(dst[:start], text)
		}
	}
	if zone {
		var ok bool
		if dst, rest, ok = appendZone(dst, rest); !ok {
			return jsontext.Append(dst[:start], text)
		}
	}
	if len(rest) > 0 {
		return jsontext.Append(dst[:start], text)
	}
	return append(dst, '"')
}

func cutBC(text []byte) (rest []byte, bc bool) {
	if n := len(text) - 3; n > 0 && string(text[n:]) == " BC" {
		return text[:n], true
	}
	return text, false
}

// isMonthDay reports whether text begins with "-MM-DD".
func isMonthDay(text []byte) bool {
	return len(text) >= 6 && text[0] == '-' && text[3] == '-' &&
		digits(text[:3], 1) == 3 && digits(text[:6], 4) == 6
}

// appendYear writes a year of four to seven digits.
func appendYear(dst, year []byte, bc bool) []byte {
	if !bc {
		if len(year) > 4 {
			dst = append(dst, '+')
		}
		return append(dst, year...)
	}
	n := 0
	for _, c := range year {
		n = n*10 + int(c-'0')
	}
	n-- // there is no year 0 in Postgres: 1 BC is 0000
	if n > 0 {
		dst = append(dst, '-')
	}
	var buf [8]byte
	i := len(buf)
	for ; n > 0 || i > len(buf)-4; n /= 10 {
		i--
		buf[i] = '0' + byte(n%10)
	}
	return append(dst, buf[i:]...)
}

// appendClock writes " HH:MM:SS" and a fraction of up to six digits.
func appendClock(dst, text []byte) (_, rest []byte, ok bool) {
	const size = len(" 12:00:00")
	if len(text) < size || text[0] != ' ' || text[3] != ':' || text[6] != ':' ||
		digits(text[:3], 1) != 3 || digits(text[:6], 4) != 6 || digits(text[:size], 7) != size {
		return dst, text, false
	}
	dst = append(dst, 'T')
	dst = append(dst, text[1:size]...)
	rest = text[size:]
	if len(rest) > 0 && rest[0] == '.' {
		n := digits(rest, 1)
		if n == 1 || n > 7 {
			return dst, text, false
		}
		dst = append(dst, rest[:n]...)
		rest = rest[n:]
	}
	return dst, rest, true
}

// appendZone writes "+HH", "+HH:MM" or "+HH:MM:SS", with a minute at least.
func appendZone(dst, text []byte) (_, rest []byte, ok bool) {
	if string(text) == "+00" {
		return append(dst, 'Z'), nil, true
	}
	if len(text) < 3 || text[0] != '+' && text[0] != '-' || digits(text[:3], 1) != 3 {
		return dst, text, false
	}
	n := 3
	for n < 9 && len(text) >= n+3 && text[n] == ':' && digits(text[:n+3], n+1) == n+3 {
		n += 3
	}
	dst = append(dst, text[:n]...)
	if n == 3 {
		dst = append(dst, ":00"...)
	}
	return dst, text[n:], true
}
