package value

import (
	"tidemark/mapping/jsontext"
)

// moneyOID is that of money, which pgtype does not name.
const moneyOID = 790

// moneyForms returns the forms of money by the words for them: as it is written for people,
// and as a number with that many digits after the point.
func moneyForms(fraction int) map[string]*Form {
	return map[string]*Form{
		"":       stringForm,
		"number": {Name: "money number 1", Encode: moneyEncoder(fraction), Field: DoubleField, sql: moneyNumber},
	}
}

// moneyEncoder writes money as a number. Its text is made for people by
// lc_monetary: -$1,234.50 or 1.234,50 €. Only the digits and the sign are the
// same everywhere, and fraction says how many digits are after the point.
func moneyEncoder(fraction int) Encoder {
	return func(dst, text []byte) []byte {
		var room [24]byte
		number := room[:0]
		negative := false
		for _, c := range text {
			switch {
			case c-'0' <= 9:
				number = append(number, c)
			case c == '-', c == '(':
				negative = true
			}
		}
		whole := len(number) - fraction
		if whole < 1 || whole > 1 && number[0] == '0' { // as no output function writes it
			return jsontext.Append(dst, text)
		}
		if negative {
			dst = append(dst, '-')
		}
		dst = append(dst, number[:whole]...)
		if fraction > 0 {
			dst = append(dst, '.')
			dst = append(dst, number[whole:]...)
		}
		return dst
	}
}

// moneyNumber makes a numeric of money, which has a cast to it alone.
func moneyNumber(ref string) string { return ref + "::pg_catalog.numeric" }
