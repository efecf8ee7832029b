package pgvalue

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func decodeBool(text []byte) (any, bool) {
	switch string(text) {
	case "t", "true":
		return true, true
	case "f", "false":
		return false, true
	}
	return nil, false
}

func decodeInt2(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 16)
	return int16(n), err == nil
}

func decodeInt4(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 32)
	return int32(n), err == nil
}

func decodeInt8(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil
}

func decodeUint4(text []byte) (any, bool) {
	n, err := strconv.ParseUint(string(text), 10, 32)
	return uint32(n), err == nil
}

func decodeUint8(text []byte) (any, bool) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, err == nil
}

func decodeFloat4(text []byte) (any, bool) {
	f, err := strconv.ParseFloat(string(text), 32)
	return float32(f), err == nil
}

func decodeFloat8(text []byte) (any, bool) {
	f, err := strconv.ParseFloat(string(text), 64)
	return f, err == nil
}

func decodeNumeric(text []byte) (any, bool) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return string(text), true
	}
	// What Postgres prints for a finite numeric is a JSON number without exponent.
	digits := bytes.TrimPrefix(text, []byte("-"))
	whole, fraction, hasFraction := bytes.Cut(digits, []byte("."))
	if !isDigits(whole) || hasFraction && !isDigits(fraction) || len(whole) > 1 && whole[0] == '0' {
		return nil, false
	}
	return json.Number(text), true
}

func isDigits(text []byte) bool {
	for _, b := range text {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(text) > 0
}

// decodeBytea reads both forms of bytea_output.
func decodeBytea(text []byte) (any, bool) {
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		out := make([]byte, hex.DecodedLen(len(digits)))
		_, err := hex.Decode(out, digits)
		return out, err == nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case i+1 < len(text) && text[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(text):
			b, err := strconv.ParseUint(string(text[i+1:i+4]), 8, 8)
			if err != nil {
				return nil, false
			}
			out = append(out, byte(b))
			i += 3
		default:
			return nil, false
		}
	}
	return out, true
}

func decodeJSON(text []byte) (any, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	return json.RawMessage(bytes.Clone(text)), true
}

func decodeInet(text []byte) (any, bool) {
	if bytes.IndexByte(text, '/') >= 0 {
		return decodeCIDR(text)
	}
	addr, err := netip.ParseAddr(string(text))
	return addr, err == nil && addr.Zone() == ""
}

func decodeCIDR(text []byte) (any, bool) {
	prefix, err := netip.ParsePrefix(string(text))
	return prefix, err == nil
}

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

// vectorOf reads int2vector and oidvector: elements separated by spaces.
func vectorOf(decode func([]byte) (any, bool)) func([]byte) (any, bool) {
	return func(text []byte) (any, bool) {
		out := []any{}
		for _, field := range bytes.Fields(text) {
			v, ok := decode(field)
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	}
}

// maxDim is the greatest number of dimensions of an array in Postgres.
const maxDim = 6

// arrayOf returns the type of an array whose elements are of type elem.
func arrayOf(elem valueType, delim byte) valueType {
	array := valueType{
		decode: func(text []byte) (any, bool) { return decodeArray(text, delim, elem.decode) },
	}
	if elem.render != nil {
		array.render = func(dst, in []byte) ([]byte, bool) { return renderArray(dst, in, delim, elem.render) }
	}
	return array
}

// decodeArray reads the text form of an array: "{1,NULL,3}", "{{a,\"b c\"},{d,e}}",
// "[0:1]={1,2}" (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).
func decodeArray(text []byte, delim byte, decode func([]byte) (any, bool)) (any, bool) {
	if bytes.HasPrefix(text, []byte("[")) { // lower bounds
		bounds, rest, ok := bytes.Cut(text, []byte("="))
		if !ok || len(bytes.Trim(bounds, "[]:+-0123456789")) > 0 {
			return nil, false
		}
		text = rest
	}
	p := arrayText{rest: text, delim: delim, decode: decode}
	out, ok := p.array(1)
	return out, ok && len(p.rest) == 0
}

// An arrayText is what is left to read of an array.
type arrayText struct {
	rest   []byte
	delim  byte
	decode func([]byte) (any, bool) // nil: the element is its text
}

// skip takes b if it comes next.
func (p *arrayText) skip(b byte) bool {
	if len(p.rest) == 0 || p.rest[0] != b {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *arrayText) array(depth int) (any, bool) {
	if depth > maxDim || !p.skip('{') {
		return nil, false
	}
	out := []any{}
	if p.skip('}') {
		return out, true
	}
	for {
		var v any
		var ok bool
		if len(p.rest) > 0 && p.rest[0] == '{' {
			v, ok = p.array(depth + 1)
		} else {
			v, ok = p.element()
		}
		if !ok {
			return nil, false
		}
		out = append(out, v)
		if p.skip('}') {
			return out, true
		}
		if !p.skip(p.delim) {
			return nil, false
		}
	}
}

func (p *arrayText) element() (any, bool) {
	var text []byte
	if p.skip('"') {
		for !p.skip('"') {
			p.skip('\\')
			if len(p.rest) == 0 {
				return nil, false
			}
			text = append(text, p.rest[0])
			p.rest = p.rest[1:]
		}
	} else {
		end := 0
		for end < len(p.rest) && p.rest[end] != p.delim && p.rest[end] != '}' {
			end++
		}
		text, p.rest = p.rest[:end], p.rest[end:]
		if len(text) == 0 {
			return nil, false
		}
		if string(text) == "NULL" {
			return nil, true
		}
	}
	if p.decode == nil {
		return string(text), true
	}
	return p.decode(text)
}
