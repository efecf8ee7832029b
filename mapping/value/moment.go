package value

// parseMoment reads a date or timestamp in the text form of date.go, the zone
// +00 passed over: the days since 1970-01-01 and the microseconds of the day.
func parseMoment(text []byte) (day, micro int64, ok bool) {
	rest, bc := cutBC(text)
	year := digits(rest, 0)
	if year < 4 || year > 7 || !isMonthDay(rest[year:]) {
		return 0, 0, false
	}
	number := func(text []byte) (n int64) {
		for _, c := range text {
			n = n*10 + int64(c-'0')
		}
		return n
	}
	y, m, d := number(rest[:year]), number(rest[year+1:year+3]), number(rest[year+4:year+6])
	if bc {
		y = 1 - y
	}
	rest = rest[year+6:]
	if len(rest) > 0 {
		const size = len(" 12:00:00")
		var room [32]byte
		if _, _, ok := appendClock(room[:0], rest); !ok {
			return 0, 0, false
		}
		micro = (number(rest[1:3])*3600 + number(rest[4:6])*60 + number(rest[7:9])) * 1e6
		if len(rest) > size && rest[size] == '.' {
			fraction := rest[size+1 : digits(rest, size+1)]
			part := number(fraction)
			for range 6 - len(fraction) {
				part *= 10
			}
			micro += part
		}
	}
	return daysSince1970(y, m, d), micro, true
}

// daysSince1970 counts by the proleptic Gregorian calendar, in years that begin
// with March and eras of 400 of them.
func daysSince1970(year, month, day int64) int64 {
	if month <= 2 {
		year--
	}
	era := year / 400
	if year < 0 {
		era = (year - 399) / 400
	}
	ofEra := year - era*400
	ofYear := (153*((month+9)%12)+2)/5 + day - 1
	return era*146_097 + ofEra*365 + ofEra/4 - ofEra/100 + ofYear - 719_468
}
