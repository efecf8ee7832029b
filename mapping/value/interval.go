package value

import (
	"bytes"
	"strconv"

	"tidemark/mapping/jsontext"
)

// A duration is an interval: its parts have signs of their own, and only the
// last is of a known length.
type duration struct {
	years, months, days int64
	seconds             int64 // of the hours, minutes and seconds; with micros of the same sign
	micros              int64
}

// parseInterval reads what IntervalStyle postgres writes:
//
//	1 year 2 mons -3 days +04:05:06.7   -00:00:00.000001   00:00:00
func parseInterval(text []byte) (d duration, ok bool) {
	for len(text) > 0 {
		var word []byte
		word, text, _ = bytes.Cut(text, []byte{' '})
		if bytes.IndexByte(word, ':') > 0 {
			return d, len(text) == 0 && d.readClock(word)
		}
		n, err := strconv.ParseInt(string(word), 10, 64)
		if err != nil {
			return d, false
		}
		word, text, _ = bytes.Cut(text, []byte{' '})
		switch string(word) {
		case "year", "years":
			d.years = n
		case "mon", "mons":
			d.months = n
		case "day", "days":
			d.days = n
		default:
			return d, false
		}
		ok = true
	}
	return d, ok
}

// readClock reads [+-]HH:MM:SS with a fraction of up to six digits.
func (d *duration) readClock(word []byte) bool {
	sign := int64(1)
	switch word[0] {
	case '-':
		sign = -1
		word = word[1:]
	case '+':
		word = word[1:]
	}
	n := len(word)
	point := bytes.IndexByte(word, '.')
	if point < 0 {
		point = n
	}
	hours := point - len(":00:00")
	if hours < 1 || hours > 12 || word[hours] != ':' || word[hours+3] != ':' || digits(word, 0) != hours ||
		digits(word[:hours+3], hours+1) != hours+3 || digits(word[:point], hours+4) != point {
		return false
	}
	number := func(text []byte) (n int64) {
		for _, c := range text {
			n = n*10 + int64(c-'0')
		}
		return n
	}
	d.seconds = sign * (number(word[:hours])*3600 + number(word[hours+1:hours+3])*60 + number(word[hours+4:point]))
	if point < n {
		fraction := word[point+1:]
		if len(fraction) == 0 || len(fraction) > 6 || digits(fraction, 0) != len(fraction) {
			return false
		}
		d.micros = number(fraction)
		for range 6 - len(fraction) {
			d.micros *= 10
		}
		d.micros *= sign
	}
	return true
}

// isInfinite knows the dates, timestamps and, since Postgres 17, intervals that are before or
// after all others.
func isInfinite(text []byte) bool {
	return string(text) == "infinity" || string(text) == "-infinity"
}

// appendDuration writes an interval as ISO 8601 has it: "P1Y2M-3DT4H5M6.7S", "PT0S".
func appendDuration(dst, text []byte) []byte {
	if isInfinite(text) {
		return append(dst, "null"...)
	}
	d, ok := parseInterval(text)
	if !ok {
		return jsontext.Append(dst, text)
	}
	part := func(n int64, unit byte) {
		if n != 0 {
			dst = append(strconv.AppendInt(dst, n, 10), unit)
		}
	}
	dst = append(dst, `"P`...)
	part(d.years, 'Y')
	part(d.months, 'M')
	part(d.days, 'D')
	if d.seconds != 0 || d.micros != 0 {
		dst = append(dst, 'T')
		part(d.seconds/3600, 'H')
		part(d.seconds/60%60, 'M')
		if d.seconds%60 != 0 || d.micros != 0 {
			dst = append(appendDecimal(dst, d.seconds%60, d.micros), 'S')
		}
	} else if d.years == 0 && d.months == 0 && d.days == 0 {
		dst = append(dst, "T0S"...)
	}
	return append(dst, '"')
}

// appendSeconds writes an interval as a number of seconds, with a year of
// 365.25 days and a month of 30, as Postgres counts them in extract(epoch).
func appendSeconds(dst, text []byte) []byte {
	if isInfinite(text) {
		return append(dst, "null"...)
	}
	d, ok := parseInterval(text)
	if !ok {
		return jsontext.Append(dst, text)
	}
	const year, month, day = 31_557_600, 2_592_000, 86_400
	seconds := d.years*year + d.months*month + d.days*day + d.seconds
	micros := d.micros
	switch { // one sign for both
	case seconds > 0 && micros < 0:
		seconds--
		micros += 1e6
	case seconds < 0 && micros > 0:
		seconds++
		micros -= 1e6
	}
	return appendDecimal(dst, seconds, micros)
}

// appendDecimal writes seconds and microseconds, which have the same sign.
func appendDecimal(dst []byte, seconds, micros int64) []byte {
	if micros < 0 {
		micros = -micros
		if seconds == 0 {
			dst = append(dst, '-')
		}
	}
	dst = strconv.AppendInt(dst, seconds, 10)
	if micros == 0 {
		return dst
	}
	var fraction [7]byte
	for i := len(fraction) - 1; i > 0; i-- {
		fraction[i] = '0' + byte(micros%10)
		micros /= 10
	}
	fraction[0] = '.'
	return append(dst, bytes.TrimRight(fraction[:], "0")...)
}

// durationText is [appendDuration].
func durationText(ref string) string {
	part := func(unit, letter string) string {
		n := "extract(" + unit + " FROM " + ref + ")"
		return "CASE WHEN " + operate(n, "<>", "0") + " THEN pg_catalog.concat(pg_catalog.trim_scale(" + n + "), '" + letter + "') END"
	}
	return "CASE WHEN pg_catalog.isfinite(" + ref + ") THEN pg_catalog.concat('P', " +
		part("year", "Y") + ", " + part("month", "M") + ", " + part("day", "D") + ", CASE" +
		" WHEN " + operate("extract(hour FROM "+ref+")", "<>", "0") + " OR " + operate("extract(minute FROM "+ref+")", "<>", "0") +
		" OR " + operate("extract(second FROM "+ref+")", "<>", "0") + " THEN pg_catalog.concat('T', " +
		part("hour", "H") + ", " + part("minute", "M") + ", " + part("second", "S") + ")" +
		" WHEN " + operate(ref, "=", literal("0", "interval")) + " AND " + operate("extract(month FROM "+ref+")", "=", "0") +
		" AND " + operate("extract(day FROM "+ref+")", "=", "0") + " THEN 'T0S' END) END"
}

// durationSeconds is [appendSeconds].
func durationSeconds(ref string) string {
	return "CASE WHEN pg_catalog.isfinite(" + ref + ") THEN pg_catalog.trim_scale(extract(epoch FROM " + ref + ")) END"
}
