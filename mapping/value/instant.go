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

// InstantDecoder returns the decoder of dates and timestamps, whose texts moment.go
// shows. The infinities are nil.
func InstantDecoder(zone *time.Location) Decoder {
	return func(text []byte) (any, error) {
		var m moment
		switch {
		case m.read(text):
			return m.instant(zone), nil
		case isInfinite(text):
			return nil, nil
		}
		return nil, unreadable(text, "a date")
	}
}

// instant returns the moment as an instant in a zone, which is UTC by one of its names.
func (m *moment) instant(zone *time.Location) time.Time {
	year, month, day := m.date()
	second, micro := m.time()
	return time.Date(year, time.Month(month), day, 0, 0, second-m.offset(), micro*1000, zone)
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
