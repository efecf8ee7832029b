package pgvalue

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
)

func decodeDate(text []byte) (any, bool)        { return decodeDateTime(text, dateOnly) }
func decodeTimestamp(text []byte) (any, bool)   { return decodeDateTime(text, withTime) }
func decodeTimestamptz(text []byte) (any, bool) { return decodeDateTime(text, withZone) }

// dateParts are the parts that a text has: a zone comes with a time only.
type dateParts int

const (
	dateOnly dateParts = iota
	withTime
	withZone
)

// decodeDateTime reads what DateStyle ISO prints: "2026-01-31", "2026-01-31 12:00:00.25",
// "0044-03-15 12:00:00+00:53:28 BC", "infinity".
func decodeDateTime(text []byte, parts dateParts) (any, bool) {
	s := string(text)
	if s == "infinity" || s == "-infinity" {
		return s, true
	}
	s, isBC := strings.CutSuffix(s, " BC")
	yearText, s, _ := strings.Cut(s, "-")
	year, ok := number(yearText, len(yearText))
	if !ok || len(yearText) < 4 || len(yearText) > 7 || year == 0 || len(s) < 5 || s[2] != '-' {
		return nil, false
	}
	if isBC {
		year = 1 - year // the year before 1 AD is 0 in Go, and 1 BC in Postgres
	}
	month, okMonth := number(s[:2], 2)
	day, okDay := number(s[3:5], 2)
	if !okMonth || !okDay {
		return nil, false
	}
	s = s[5:]

	var hour, minute, second, nanosecond, offset int
	if parts >= withTime {
		if len(s) < 9 || s[0] != ' ' || s[3] != ':' || s[6] != ':' {
			return nil, false
		}
		var okHour, okMinute, okSecond bool
		hour, okHour = number(s[1:3], 2)
		minute, okMinute = number(s[4:6], 2)
		second, okSecond = number(s[7:9], 2)
		if !okHour || !okMinute || !okSecond || hour > 23 || minute > 59 || second > 59 {
			return nil, false
		}
		s = s[9:]
		if strings.HasPrefix(s, ".") {
			end := 1
			for end < len(s) && '0' <= s[end] && s[end] <= '9' {
				end++
			}
			micros, ok := number((s[1:end] + "000000")[:max(6, end-1)], 6)
			if !ok || end == 1 {
				return nil, false
			}
			nanosecond = micros * 1000
			s = s[end:]
		}
	}
	if parts == withZone {
		if offset, ok = zoneOffset(s); !ok {
			return nil, false
		}
		s = ""
	}
	if s != "" {
		return nil, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanosecond, time.UTC)
	if t.Month() != time.Month(month) || t.Day() != day { // 31 February
		return nil, false
	}
	return t.Add(-time.Duration(offset) * time.Second), true
}

// zoneOffset reads "+02", "-03:30" or "+00:53:28", in seconds east of UTC.
func zoneOffset(s string) (int, bool) {
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	seconds := 0
	unit := 3600
	for i, part := range strings.Split(s[1:], ":") {
		n, ok := number(part, 2)
		if !ok || i > 2 {
			return 0, false
		}
		seconds += n * unit
		unit /= 60
	}
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// number reads an unsigned decimal number of exactly so many digits.
func number(s string, digits int) (int, bool) {
	if len(s) != digits {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// Postgres counts days and microseconds from 2000-01-01; the extreme values are the
// infinities.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func renderDate(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	days := w.int32()
	switch days {
	case math.MaxInt32:
		return append(dst, "infinity"...), w.done()
	case math.MinInt32:
		return append(dst, "-infinity"...), w.done()
	}
	date := postgresEpoch.AddDate(0, 0, int(days))
	dst, isBC := appendDate(dst, date)
	return appendEra(dst, isBC), w.done()
}

func renderTimestamp(dst, in []byte) ([]byte, bool)   { return appendTimestamp(dst, in, "") }
func renderTimestamptz(dst, in []byte) ([]byte, bool) { return appendTimestamp(dst, in, "+00") }

func appendTimestamp(dst, in []byte, zone string) ([]byte, bool) {
	w := wire{in: in}
	micros := w.int64()
	switch micros {
	case math.MaxInt64:
		return append(dst, "infinity"...), w.done()
	case math.MinInt64:
		return append(dst, "-infinity"...), w.done()
	}
	const day = 24 * 60 * 60 * 1_000_000
	days, rest := micros/day, micros%day
	if rest < 0 {
		days, rest = days-1, rest+day
	}
	dst, isBC := appendDate(dst, postgresEpoch.AddDate(0, 0, int(days)))
	dst = appendClock(append(dst, ' '), uint64(rest))
	return appendEra(append(dst, zone...), isBC), w.done()
}

func appendDate(dst []byte, date time.Time) (out []byte, isBC bool) {
	year, month, day := date.Date()
	if isBC = year < 1; isBC {
		year = 1 - year
	}
	dst = append(appendPadded(dst, year, 4), '-')
	dst = append(appendPadded(dst, int(month), 2), '-')
	return appendPadded(dst, day, 2), isBC
}

func appendEra(dst []byte, isBC bool) []byte {
	if isBC {
		return append(dst, " BC"...)
	}
	return dst
}

// appendClock writes "15:04:05.25": at least two digits of hours, and the fraction without
// trailing zeros.
func appendClock(dst []byte, micros uint64) []byte {
	seconds := micros / 1_000_000
	dst = append(appendPadded(dst, int(seconds/3600), 2), ':')
	dst = append(appendPadded(dst, int(seconds/60%60), 2), ':')
	dst = appendPadded(dst, int(seconds%60), 2)
	if fraction := micros % 1_000_000; fraction != 0 {
		dst = appendPadded(append(dst, '.'), int(fraction), 6)
		dst = bytes.TrimRight(dst, "0")
	}
	return dst
}

const maxTime = 24 * 60 * 60 * 1_000_000 // 24:00:00 is a valid time

func renderTime(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros := w.uint64()
	return appendClock(dst, micros), w.done() && micros <= maxTime
}

func renderTimetz(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros, west := w.uint64(), int(w.int32())
	if !w.done() || micros > maxTime || west < -86400 || west > 86400 {
		return dst, false
	}
	dst = appendClock(dst, micros)
	sign, offset := byte('+'), -west
	if offset < 0 {
		sign, offset = '-', west
	}
	dst = appendPadded(append(dst, sign), offset/3600, 2)
	if offset%3600 != 0 {
		dst = appendPadded(append(dst, ':'), offset/60%60, 2)
	}
	if offset%60 != 0 {
		dst = appendPadded(append(dst, ':'), offset%60, 2)
	}
	return dst, true
}

// renderInterval writes IntervalStyle postgres: "1 year -2 mons +3 days -04:05:06".
func renderInterval(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros, days, months := w.int64(), w.int32(), w.int32()
	if !w.done() {
		return dst, false
	}
	switch {
	case micros == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32:
		return append(dst, "infinity"...), true
	case micros == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32:
		return append(dst, "-infinity"...), true
	}
	start, afterNegative := len(dst), false
	for _, part := range []struct {
		value int32
		unit  string
	}{{months / 12, " year"}, {months % 12, " mon"}, {days, " day"}} {
		if part.value == 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		if afterNegative && part.value > 0 {
			dst = append(dst, '+')
		}
		dst = append(strconv.AppendInt(dst, int64(part.value), 10), part.unit...)
		if part.value != 1 {
			dst = append(dst, 's')
		}
		afterNegative = part.value < 0
	}
	if micros == 0 && len(dst) > start {
		return dst, true
	}
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	magnitude := uint64(micros)
	switch {
	case micros < 0:
		dst = append(dst, '-')
		magnitude = -magnitude // also right for the smallest int64
	case afterNegative:
		dst = append(dst, '+')
	}
	return appendClock(dst, magnitude), true
}
