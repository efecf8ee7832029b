package value

// The texts read here are those of DateStyle ISO, which our sessions set:
//
//	2026-01-31
//	2026-01-31 12:00:00.5
//	2026-01-31 12:00:00.5+00
//	0044-03-15 12:00:00+00:53:28 BC
//
// Postgres writes at least four digits of the year. The infinities are no moments.

// A moment is a date or a timestamp, found to be one and taken apart, as its text has it.
type moment struct {
	text  []byte // without BC
	bc    bool
	year  int // where its four to seven digits end, and "-MM-DD" begins
	clock int // where " HH:MM:SS" ends, with a fraction of up to six digits; the end of the date where there is none
}

const (
	sizeDate  = len("-01-31")
	sizeClock = len(" 12:00:00")
)

// read takes the text of a date or a timestamp apart. It reports whether it is one.
func (m *moment) read(text []byte) bool {
	m.bc = false
	if n := len(text) - 3; n > 0 && string(text[n:]) == " BC" {
		text, m.bc = text[:n], true
	}
	m.text, m.year = text, digits(text, 0)
	if m.year < 4 || m.year > 7 || !isMonthDay(text[m.year:]) {
		return false
	}
	m.clock = m.year + sizeDate
	if rest := text[m.clock:]; len(rest) > 0 && rest[0] == ' ' {
		n := clockLen(rest)
		if n == 0 {
			return false
		}
		m.clock += n
	}
	return m.clock == len(text) || isZone(text[m.clock:])
}

// isMonthDay reports whether text begins with "-MM-DD".
func isMonthDay(text []byte) bool {
	return len(text) >= sizeDate && text[0] == '-' && text[3] == '-' &&
		digits(text[:3], 1) == 3 && digits(text[:6], 4) == 6
}

// clockLen returns the length of " HH:MM:SS" with its fraction at the beginning of a text, 0
// where there is none.
func clockLen(text []byte) int {
	if len(text) < sizeClock || text[3] != ':' || text[6] != ':' ||
		digits(text[:3], 1) != 3 || digits(text[:6], 4) != 6 || digits(text[:sizeClock], 7) != sizeClock {
		return 0
	}
	if len(text) == sizeClock || text[sizeClock] != '.' {
		return sizeClock
	}
	n := digits(text, sizeClock+1)
	if n == sizeClock+1 || n > sizeClock+7 {
		return 0
	}
	return n
}

// isZone reports whether text is "+HH", "+HH:MM" or "+HH:MM:SS", with either sign.
func isZone(text []byte) bool {
	if string(text) == "+00" { // as in all our sessions
		return true
	}
	if len(text) < 3 || text[0] != '+' && text[0] != '-' || digits(text[:3], 1) != 3 {
		return false
	}
	n := 3
	for n < 9 && len(text) >= n+3 && text[n] == ':' && digits(text[:n+3], n+1) == n+3 {
		n += 3
	}
	return n == len(text)
}

// hasClock reports whether it has a time of the day.
func (m *moment) hasClock() bool { return m.clock > m.year+sizeDate }

// hasZone reports whether it has an offset from UTC.
func (m *moment) hasZone() bool { return m.clock < len(m.text) }

// date returns the year by the proleptic calendar, where 1 BC is 0, the month and the day.
func (m *moment) date() (year, month, day int) {
	at := m.text[m.year:]
	year = number(m.text[:m.year])
	if m.bc {
		year = 1 - year
	}
	return year, number(at[1:3]), number(at[4:6])
}

// time returns the seconds of the day and the microseconds of the second, without the zone.
func (m *moment) time() (second, micro int) {
	if !m.hasClock() {
		return 0, 0
	}
	at := m.text[m.year+sizeDate : m.clock]
	second = number(at[1:3])*3600 + number(at[4:6])*60 + number(at[7:9])
	fraction := at[min(len(at), sizeClock+1):]
	micro = number(fraction)
	for range 6 - len(fraction) {
		micro *= 10
	}
	return second, micro
}

// offset returns how many seconds the zone is east of UTC, 0 where there is none.
func (m *moment) offset() (seconds int) {
	if !m.hasZone() {
		return 0
	}
	at := m.text[m.clock:]
	for unit := 3600; len(at) >= 3; at, unit = at[3:], unit/60 {
		seconds += unit * number(at[1:3])
	}
	if m.text[m.clock] == '-' {
		return -seconds
	}
	return seconds
}

// sinceEpoch returns the days since 1970-01-01 and the microseconds of the day, the zone
// passed over: in our sessions it is UTC.
func (m *moment) sinceEpoch() (day, micro int64) {
	year, month, monthDay := m.date()
	second, micros := m.time()
	return daysSince1970(int64(year), int64(month), int64(monthDay)), int64(second)*1e6 + int64(micros)
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

// number reads digits, few enough for an int. None are 0.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = n*10 + int(c-'0')
	}
	return n
}
