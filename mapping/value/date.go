package value

import (
	"tidemark/mapping/jsontext"
)

// Dates and timestamps become ISO 8601 with the proleptic year: 44 BC is -0043, and years
// beyond 9999 have a plus. How Postgres writes them stands in moment.go.

// appendDate is for date: no time, no zone.
func appendDate(dst, text []byte) []byte {
	var m moment
	if !m.read(text) || m.hasClock() || m.hasZone() {
		return appendNoMoment(dst, text)
	}
	return append(m.appendLocal(append(dst, '"')), '"')
}

// appendTimestamp is for timestamp without time zone.
func appendTimestamp(dst, text []byte) []byte {
	var m moment
	if !m.read(text) || !m.hasClock() || m.hasZone() {
		return appendNoMoment(dst, text)
	}
	return append(m.appendLocal(append(dst, '"')), '"')
}

// appendTimestamptz is for timestamp with time zone. The offset +00 becomes Z.
func appendTimestamptz(dst, text []byte) []byte {
	var m moment
	if !m.read(text) || !m.hasClock() || !m.hasZone() {
		return appendNoMoment(dst, text)
	}
	dst = m.appendLocal(append(dst, '"'))
	return append(m.appendZone(dst), '"')
}

// appendNoMoment writes what is no moment of the type. The infinities have no ISO form: null.
// Any other text is kept as a string: the field ignores what is malformed, and the document
// still shows it.
func appendNoMoment(dst, text []byte) []byte {
	if isInfinite(text) {
		return append(dst, "null"...)
	}
	return jsontext.Append(dst, text)
}

// appendLocal writes all but the zone.
func (m *moment) appendLocal(dst []byte) []byte {
	if m.bc || m.year > 4 {
		dst = appendYear(dst, m.text[:m.year], m.bc)
		dst = append(dst, m.text[m.year:m.clock]...)
	} else {
		dst = append(dst, m.text[:m.clock]...)
	}
	if n := m.clock - m.year - sizeDate; n > 0 {
		dst[len(dst)-n] = 'T' // was a blank
	}
	return dst
}

// appendZone writes the offset, with a minute at least.
func (m *moment) appendZone(dst []byte) []byte {
	zone := m.text[m.clock:]
	switch {
	case string(zone) == "+00":
		return append(dst, 'Z')
	case len(zone) == len("+00"):
		return append(append(dst, zone...), ":00"...)
	}
	return append(dst, zone...)
}

// appendYear writes a year of four to seven digits.
func appendYear(dst, year []byte, bc bool) []byte {
	if !bc {
		if len(year) > 4 {
			dst = append(dst, '+')
		}
		return append(dst, year...)
	}
	n := number(year) - 1 // there is no year 0 in Postgres: 1 BC is 0000
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
