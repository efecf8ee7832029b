package value

import (
	"reflect"
	"strconv"
	"time"
)

var (
	TimeType = reflect.TypeFor[time.Time]()
)

// The zone of an instant in an expression is always UTC. Which of these it is
// tells from what type it comes, through arithmetic, too, and so in which form
// it goes into the document. time.UTC stands for timestamptz.
var (
	DateZone      = time.FixedZone("UTC", 0)
	TimestampZone = time.FixedZone("UTC", 0)
)

// InstantDecoder returns the decoder of dates and timestamps, whose texts date.go
// shows. The infinities are nil.
func InstantDecoder(zone *time.Location) Decoder {
	return func(text []byte) (any, error) {
		switch string(text) {
		case "infinity", "-infinity":
			return nil, nil
		}
		t, ok := instant(text, zone)
		if !ok {
			return nil, unreadable(text, "a date")
		}
		return t, nil
	}
}

// instant reads a date, with a time and an offset where it has them.
func instant(text []byte, zone *time.Location) (_ time.Time, ok bool) {
	rest, bc := cutBC(text)
	n := digits(rest, 0)
	if n < 4 || n > 7 || !isMonthDay(rest[n:]) {
		return time.Time{}, false
	}
	year := number(rest[:n])
	if bc {
		year = 1 - year
	}
	month, day := number(rest[n+1:n+3]), number(rest[n+4:n+6])
	rest = rest[n+6:]
	var clock [len("T12:00:00.123456")]byte
	var hour, minute, second, nanos, offset int
	if len(rest) > 0 && rest[0] == ' ' {
		at, after, ok := appendClock(clock[:0], rest)
		if !ok {
			return time.Time{}, false
		}
		hour, minute, second = number(at[1:3]), number(at[4:6]), number(at[7:9])
		fraction := at[min(len(at), 10):]
		nanos = number(fraction)
		for range 9 - len(fraction) {
			nanos *= 10
		}
		rest = after
	}
	if len(rest) > 0 {
		if offset, ok = zoneOffset(rest); !ok {
			return time.Time{}, false
		}
	}
	return time.Date(year, time.Month(month), day, hour, minute, second-offset, nanos, zone), true
}

// zoneOffset reads "+HH", "+HH:MM" or "+HH:MM:SS": seconds east of UTC.
func zoneOffset(text []byte) (seconds int, ok bool) {
	var zone [len("+00:00:00")]byte
	if len(text) > len(zone) {
		return 0, false
	}
	at, rest, ok := appendZone(zone[:0], text)
	if !ok || len(rest) > 0 {
		return 0, false
	}
	if len(at) == 1 { // Z
		return 0, true
	}
	seconds = 3600*number(at[1:3]) + 60*number(at[4:6])
	if len(at) > 6 {
		seconds += number(at[7:9])
	}
	if at[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// number reads digits, few enough for an int. None are 0.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n
}

// appendTime writes an instant as the document has one of the type it comes from,
// see date.go. A date that arithmetic took off midnight is written as timestamp.
func appendTime(dst []byte, t time.Time) []byte {
	layout := "-01-02T15:04:05.999999999"
	switch t.Location() {
	case DateZone:
		if hour, minute, second := t.Clock(); hour|minute|second|t.Nanosecond() == 0 {
			layout = "-01-02"
		}
	case TimestampZone:
	default:
		t = t.UTC()
		layout += "Z"
	}
	dst = append(dst, '"')
	year := t.Year()
	switch {
	case year > 9999:
		dst = append(dst, '+')
	case year < 0:
		dst = append(dst, '-')
		year = -year
	}
	for least := 1000; least > max(year, 1); least /= 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, int64(year), 10)
	dst = t.AppendFormat(dst, layout)
	return append(dst, '"')
}
