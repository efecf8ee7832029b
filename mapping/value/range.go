package value

import (
	"math/big"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

// A range becomes an object as the range fields of the search servers take it:
//
//	[1,5)  {"gte":1,"lt":5}     (,5]  {"lte":5}     (,)  {}
//
// A bound that is infinite or beyond what the field holds is left out. A range
// in which there is nothing, or nothing that the field holds, is null. The
// servers refuse a document with a range in which, to them, nothing is, and they
// count in doubles and milliseconds: where that leaves nothing between exclusive
// bounds, both are written as inclusive ones.

// A span is a range that has been read.
type span struct {
	lower, upper []byte // nil: unbounded
	gt, lt       bool   // the bound is exclusive
}

// A scale is what a range field counts in.
type scale struct {
	field map[string]any
	// beyond gives -1 for a bound below all that the field holds, 1 for one above.
	beyond func(text []byte) int
	// first and last are the outermost values where each has a next one: nothing
	// is below the first or above the last. Empty: there are none.
	first, last string
	// narrow reports whether the field may see nothing between two bounds, one or
	// both of which are exclusive. nil: it always does.
	narrow func(s span) bool
	// exact writes a bound that is named by gt or lte; nil: as the others.
	exact func(bound Encoder) Encoder

	// The same in SQL.
	below, above func(ref string) string
	narrowSQL    func(lower, upper, exclusive string) string
	exactSQL     func(bound *Form) sqlFunc
}

// rangeForm returns the form of a range by the type of its bounds; nil if that is
// no scalar.
func rangeForm(t *catalog.Type, depth int) *Form {
	sub := t.Elem.Root()
	if sub.Kind != catalog.KindBase && sub.Kind != catalog.KindEnum || len(knownForms(sub, depth+1)) == 0 {
		return nil
	}
	bound := newForm(sub, "", depth+1)
	if bound.loose || bound.Field["properties"] != nil || bound.Field["type"] == "object" {
		return nil
	}
	s := scaleOf(sub)
	if t.Canonical {
		canonical := *s
		canonical.narrow = nil
		s = &canonical
	}
	r := rangeCoder{s, bound.Encode, bound.Encode}
	if s.exact != nil {
		r.exact = s.exact(bound.Encode)
	}
	return &Form{
		Name: bound.Name + " range 1", Encode: r.encode, Field: s.field,
		sql: func(ref string) string { return s.rangeSQL(ref, bound) },
	}
}

// multirangeForm writes a multirange as an array of its ranges.
func multirangeForm(t *catalog.Type, depth int) *Form {
	one := rangeForm(t.Elem.Root(), depth)
	if one == nil {
		return nil
	}
	return &Form{
		Name: one.Name + " multirange 1", Encode: multirangeEncoder(one.Encode), Field: one.Field,
		sql: func(ref string) string {
			v := newName(ref)
			return "CASE WHEN " + ref + " IS NOT NULL THEN pg_catalog.array_to_json(ARRAY(SELECT " + one.json(v+".r") +
				" FROM (SELECT pg_catalog.unnest(" + ref + ") AS r) " + v + ")) END"
		},
	}
}

// scaleOf returns the scale of a range whose bounds have this type.
func scaleOf(sub *catalog.Type) *scale {
	switch sub.OID {
	case pgtype.Int2OID:
		return shortScale
	case pgtype.Int4OID:
		return integerScale
	case pgtype.Int8OID:
		return longScale
	case pgtype.NumericOID:
		return numericScale
	case pgtype.Float4OID, pgtype.Float8OID:
		return floatScale(sub.Name)
	case pgtype.DateOID:
		return dateScale
	case pgtype.TimestampOID, pgtype.TimestamptzOID:
		return momentScale(sub.OID)
	}
	return plainScale
}

var (
	integerRange = map[string]any{"type": "integer_range"}

	plainScale   = &scale{field: DisabledField}
	shortScale   = &scale{field: integerRange, narrow: narrowIntegers, narrowSQL: integersSQL}
	integerScale = &scale{
		field: integerRange, first: "-2147483648", last: "2147483647",
		narrow: narrowIntegers, narrowSQL: integersSQL,
	}
	longScale = &scale{
		field: map[string]any{"type": "long_range"}, first: "-9223372036854775808", last: "9223372036854775807",
		narrow: narrowIntegers, narrowSQL: integersSQL,
	}
	numericScale = &scale{
		field: map[string]any{"type": "double_range"}, beyond: beyondNumeric,
		narrow: narrowNumbers, narrowSQL: numbersSQL,
		below: func(ref string) string { return operate(ref, "<=", literal("-1e308", "numeric")) },
		above: func(ref string) string { return operate(ref, ">=", literal("1e308", "numeric")) },
	}
	dateScale = &scale{
		field: map[string]any{"type": "date_range", "format": dateFormat}, beyond: beyondTime,
		narrow: narrowDates,
		narrowSQL: func(lower, upper, exclusive string) string {
			return operate(operate(upper, "-", lower), "<", exclusive)
		},
		below: isInfinity("-infinity", "date"), above: isInfinity("infinity", "date"),
	}
)

func floatScale(typ string) *scale {
	if typ == "real" {
		typ = "float4"
	} else {
		typ = "float8"
	}
	return &scale{
		field: map[string]any{"type": "double_range"}, beyond: beyondNumeric,
		narrow: narrowNumbers, narrowSQL: numbersSQL,
		below: func(ref string) string { return operate(ref, "<=", literal("-Infinity", typ)) },
		above: func(ref string) string { return operate(ref, ">=", literal("Infinity", typ)) },
	}
}

// momentScale is that of timestamps. A server that rounds up, as it does for gt
// and lte, takes a missing fraction of the second for the end of that second: so
// such a bound has one.
func momentScale(oid uint32) *scale {
	typ := "timestamp"
	if oid == pgtype.TimestamptzOID {
		typ = "timestamptz"
	}
	return &scale{
		field: map[string]any{"type": "date_range", "format": dateFormat}, beyond: beyondTime,
		narrow: narrowMoments,
		exact:  withFraction,
		// Neither sum nor difference leaves the range of the type.
		narrowSQL: func(lower, upper, exclusive string) string {
			const two = "'2 milliseconds'::pg_catalog.interval"
			return "CASE WHEN " + operate(lower, "<", literal("2000-01-01", typ)) + " THEN " + operate(upper, "<", operate(lower, "+", two)) +
				" ELSE " + operate(operate(upper, "-", two), "<", lower) + " END"
		},
		below: isInfinity("-infinity", typ), above: isInfinity("infinity", typ),
		exactSQL: func(bound *Form) sqlFunc {
			return func(ref string) string {
				text := timestampText(ref)
				if oid == pgtype.TimestamptzOID {
					text = timestamptzText(ref)
				}
				return "pg_catalog.regexp_replace(" + text + ", E'(:[0-9][0-9])(Z?)$', E'\\\\1.000\\\\2')"
			}
		},
	}
}

func isInfinity(value, typ string) func(string) string {
	return func(ref string) string { return operate(ref, "=", literal(value, typ)) }
}

// beyondNumeric holds numbers of more than 308 digits for infinite: the largest
// double is between there and the next. NaN is the largest number of all.
func beyondNumeric(text []byte) int {
	switch string(text) {
	case "NaN", "Infinity":
		return 1
	case "-Infinity":
		return -1
	}
	sign, start := 1, 0
	if len(text) > 0 && text[0] == '-' {
		sign, start = -1, 1
	}
	if digits(text, start)-start > 308 {
		return sign
	}
	return 0
}

func beyondTime(text []byte) int {
	switch string(text) {
	case "infinity":
		return 1
	case "-infinity":
		return -1
	}
	return 0
}

// exclusives counts the bounds that are exclusive.
func (s span) exclusives() int64 {
	n := int64(0)
	if s.gt {
		n++
	}
	if s.lt {
		n++
	}
	return n
}

func narrowIntegers(s span) bool {
	lower, err1 := strconv.ParseInt(string(s.lower), 10, 64)
	upper, err2 := strconv.ParseInt(string(s.upper), 10, 64)
	return err1 == nil && err2 == nil && uint64(upper)-uint64(lower) < uint64(s.exclusives())
}

func integersSQL(lower, upper, exclusive string) string {
	return operate(operate(upper+"::pg_catalog.numeric", "-", lower+"::pg_catalog.numeric"), "<", exclusive)
}

// What two bounds may differ by and be narrow: relative to the larger one, and
// at all. Three steps of a double are less.
const (
	narrowShare = "1e-15"
	narrowSum   = "1e-300"
)

// narrowNumbers compares in decimal, as numeric does.
func narrowNumbers(s span) bool {
	lo, _ := strconv.ParseFloat(string(s.lower), 64)
	hi, _ := strconv.ParseFloat(string(s.upper), 64)
	if difference := hi - lo; difference > 1e-14*max(hi, -lo) && difference > 1e-299 {
		return false // so far from the limit that a rounded comparison will do
	}
	lower, ok1 := new(big.Rat).SetString(string(s.lower))
	upper, ok2 := new(big.Rat).SetString(string(s.upper))
	if !ok1 || !ok2 {
		return false
	}
	limit, _ := new(big.Rat).SetString(narrowShare)
	sum, _ := new(big.Rat).SetString(narrowSum)
	larger := new(big.Rat).Abs(lower)
	if other := new(big.Rat).Abs(upper); other.Cmp(larger) > 0 {
		larger = other
	}
	limit.Add(limit.Mul(limit, larger), sum)
	return new(big.Rat).Sub(upper, lower).Cmp(limit) <= 0
}

func numbersSQL(lower, upper, _ string) string {
	lower += "::pg_catalog.text::pg_catalog.numeric"
	upper += "::pg_catalog.text::pg_catalog.numeric"
	limit := operate(operate(literal(narrowShare, "numeric"), "*", "GREATEST(pg_catalog.abs("+lower+"), pg_catalog.abs("+upper+"))"),
		"+", literal(narrowSum, "numeric"))
	return operate(operate(upper, "-", lower), "<=", limit)
}

func narrowDates(s span) bool {
	var m1, m2 moment
	if !m1.read(s.lower) || !m2.read(s.upper) {
		return false
	}
	lower, _ := m1.sinceEpoch()
	upper, _ := m2.sinceEpoch()
	return upper-lower < s.exclusives()
}

// narrowMoments is true below two milliseconds, which may be one when rounded.
func narrowMoments(s span) bool {
	var m1, m2 moment
	if !m1.read(s.lower) || !m2.read(s.upper) {
		return false
	}
	day1, micro1 := m1.sinceEpoch()
	day2, micro2 := m2.sinceEpoch()
	return day2-day1 <= 1 && (day2-day1)*86_400_000_000+micro2-micro1 < 2000
}

// rangeCoder encodes ranges.
type rangeCoder struct {
	scale        *scale
	bound, exact Encoder
}

func (r rangeCoder) encode(dst, text []byte) []byte {
	if string(text) == "empty" {
		return append(dst, "null"...)
	}
	start := len(dst)
	dst, s, ok := readSpan(dst, text)
	bare := len(dst)
	if !ok {
		return jsontext.Append(dst[:start], text)
	}
	if s, ok = r.clip(s); !ok {
		return append(dst[:start], "null"...)
	}
	dst = append(dst, '{')
	if s.lower != nil {
		if s.gt {
			dst = r.exact(append(dst, `"gt":`...), s.lower)
		} else {
			dst = r.bound(append(dst, `"gte":`...), s.lower)
		}
	}
	if s.upper != nil {
		if s.lower != nil {
			dst = append(dst, ',')
		}
		if s.lt {
			dst = r.bound(append(dst, `"lt":`...), s.upper)
		} else {
			dst = r.exact(append(dst, `"lte":`...), s.upper)
		}
	}
	dst = append(dst, '}')
	return dst[:start+copy(dst[start:], dst[bare:])]
}

// clip makes of the range what its field holds. It is false if that is nothing.
func (r rangeCoder) clip(s span) (span, bool) {
	if first, last := r.scale.first, r.scale.last; first != "" {
		if s.lower != nil && s.gt && string(s.lower) == last || s.upper != nil && s.lt && string(s.upper) == first {
			return s, false
		}
	}
	if beyond := r.scale.beyond; beyond != nil {
		if s.lower != nil {
			switch beyond(s.lower) {
			case 1:
				return s, false
			case -1:
				s.lower = nil
			}
		}
		if s.upper != nil {
			switch beyond(s.upper) {
			case -1:
				return s, false
			case 1:
				s.upper = nil
			}
		}
	}
	if s.lower != nil && s.upper != nil && (s.gt || s.lt) && r.scale.narrow != nil && r.scale.narrow(s) {
		s.gt, s.lt = false, false
	}
	return s, true
}

// readSpan reads what range_out wrote: [1,5)   ("2026-01-31 00:00:00",]   (,)
// Bounds that are quoted are laid bare at the end of dst.
func readSpan(dst, text []byte) (_ []byte, s span, ok bool) {
	if len(text) < 3 || text[0] != '[' && text[0] != '(' {
		return dst, s, false
	}
	s.gt = text[0] == '('
	var end int
	if dst, s.lower, end = readBound(dst, text, 1); end == len(text) || text[end] != ',' {
		return dst, s, false
	}
	if dst, s.upper, end = readBound(dst, text, end+1); end != len(text)-1 || text[end] == ',' {
		return dst, s, false
	}
	s.lt = text[end] == ')'
	return dst, s, true
}

// readBound returns the bound that begins at i, nil if there is none, and its end.
func readBound(dst, text []byte, i int) (_, bound []byte, end int) {
	end, quoted := boundEnd(text, i)
	switch {
	case quoted:
		start := len(dst)
		if dst = appendBare(dst, text[i:end]); len(dst) == start {
			return dst, text[i:i], end // not nil, even if dst is
		}
		return dst, dst[start:], end
	case end == i:
		return dst, nil, end
	}
	return dst, text[i:end], end
}

// withFraction writes a moment with milliseconds if it has no fraction.
func withFraction(bound Encoder) Encoder {
	return func(dst, text []byte) []byte {
		start := len(dst)
		dst = bound(dst, text)
		n := len(dst)
		end := n - 1 // of the time: before the quote, and Z
		if end > start && dst[end-1] == 'Z' {
			end--
		}
		const seconds = len(":00")
		if end-start <= seconds || dst[end-seconds] != ':' || digits(dst[:end], end-2) != end {
			return dst
		}
		dst = append(dst, ".000"...)
		copy(dst[end+4:], dst[end:n])
		copy(dst[end:], ".000")
		return dst
	}
}

// multirangeEncoder reads what multirange_out wrote: {[1,2),[5,7)}   {}
func multirangeEncoder(one Encoder) Encoder {
	return func(dst, text []byte) []byte {
		start, n := len(dst), len(text)
		if n < 2 || text[0] != '{' || text[n-1] != '}' {
			return jsontext.Append(dst, text)
		}
		dst = append(dst, '[')
		for i := 1; i < n-1; {
			if i > 1 {
				if text[i] != ',' {
					return jsontext.Append(dst[:start], text)
				}
				dst = append(dst, ',')
				i++
			}
			middle, _ := boundEnd(text, i)
			if middle == n || text[middle] != ',' {
				return jsontext.Append(dst[:start], text)
			}
			end, _ := boundEnd(text, middle+1)
			if end == n || text[end] == ',' {
				return jsontext.Append(dst[:start], text)
			}
			dst = one(dst, text[i:end+1])
			i = end + 1
		}
		return append(dst, ']')
	}
}

// rangeSQL is [rangeCoder.encode].
func (s *scale) rangeSQL(ref string, bound *Form) string {
	v := newName(ref)
	w := newName(ref + v)
	exact := bound.SQL
	if s.exactSQL != nil {
		write := s.exactSQL(bound)
		exact = func(ref string, _ *catalog.Type) string { return write(ref) }
	}
	lower, upper := w+".lower", w+".upper"
	keptLower, keptUpper := lower, upper
	var nothing string
	add := func(condition string) {
		if nothing != "" {
			nothing += " OR "
		}
		nothing += condition
	}
	if s.below != nil {
		keptLower = "CASE WHEN " + s.below(lower) + " THEN NULL ELSE " + lower + " END"
		keptUpper = "CASE WHEN " + s.above(upper) + " THEN NULL ELSE " + upper + " END"
		add(s.above(lower))
		add(s.below(upper))
	}
	if s.first != "" {
		add("NOT " + w + ".gte AND " + operate(lower, "=", "'"+s.last+"'"))
		add("NOT " + w + ".lte AND " + operate(upper, "=", "'"+s.first+"'"))
	}
	gte, lte := w+".gte", w+".lte"
	if s.narrow != nil {
		bounded := "NOT (" + gte + " AND " + lte + ") AND " + lower + " IS NOT NULL AND " + upper + " IS NOT NULL"
		if s.below != nil {
			bounded += " AND NOT (" + s.below(lower) + " OR " + s.above(lower) + " OR " + s.below(upper) + " OR " + s.above(upper) + ")"
		}
		exclusives := operate(operate("2", "-", gte+"::pg_catalog.int4"), "-", lte+"::pg_catalog.int4")
		narrow := "CASE WHEN " + bounded + " THEN " + s.narrowSQL(lower, upper, exclusives) + " ELSE false END"
		gte = gte + " OR " + narrow
		lte = lte + " OR " + narrow
	}
	where := ""
	if nothing != "" {
		where = " WHERE (" + nothing + ") IS NOT TRUE"
	}
	return "(SELECT pg_catalog.json_strip_nulls(pg_catalog.json_build_object(" +
		"'gte', CASE WHEN " + v + ".gte THEN " + bound.SQL(v+".lower", nil) + " END, " +
		"'gt', CASE WHEN NOT " + v + ".gte THEN " + exact(v+".lower", nil) + " END, " +
		"'lt', CASE WHEN NOT " + v + ".lte THEN " + bound.SQL(v+".upper", nil) + " END, " +
		"'lte', CASE WHEN " + v + ".lte THEN " + exact(v+".upper", nil) + " END))" +
		" FROM (SELECT " + keptLower + " AS lower, " + keptUpper + " AS upper, " + gte + " AS gte, " + lte + " AS lte" +
		" FROM (SELECT pg_catalog.lower(" + ref + ") AS lower, pg_catalog.upper(" + ref + ") AS upper," +
		" pg_catalog.lower_inc(" + ref + ") AS gte, pg_catalog.upper_inc(" + ref + ") AS lte" +
		" WHERE NOT pg_catalog.isempty(" + ref + ") OFFSET 0) " + w + where + ") " + v + ")"
}
