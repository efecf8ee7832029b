package value

import (
	"fmt"
	"strings"

	"tidemark/mapping/catalog"
)

// What is written here are SQL expressions whose JSON, as row_to_json makes it,
// is what the encoder of the same form makes of the text of the value. Every
// function, operator and type has its schema, so that no search_path changes
// what is meant. ref is a reference to a column, or an expression in
// parentheses; it is repeated, so it must cost nothing. The sessions have
// TimeZone UTC, DateStyle ISO, IntervalStyle postgres and bytea_output hex.
//
// row_to_json writes numbers and booleans as they are, and the text of what it
// does not know as a string. Such values need no expression at all.

// A sqlFunc gives the SQL for the value at ref.
type sqlFunc func(ref string) string

// SQL returns the SQL expression of the form for the value that ref refers to:
// a column such as a1."price", or an expression in parentheses. It is NULL
// where the document has null.
func (f *Form) SQL(ref string, _ *catalog.Type) string {
	switch {
	case f.sql != nil:
		return f.sql(ref)
	case len(f.casts) > 0:
		return castTo(ref, "", f.casts)
	}
	return ref
}

// isPlain reports whether row_to_json makes of the value itself what the
// encoder does.
func (f *Form) isPlain() bool { return f.sql == nil && len(f.casts) == 0 }

// json returns the expression of the form with json as its type.
func (f *Form) json(ref string) string {
	return "pg_catalog.to_json(" + f.SQL(ref, nil) + ")"
}

// castTo returns ref cast to each of types in turn. With suffix "[]" each
// element of an array is: its dimensions and NULLs stay.
func castTo(ref, suffix string, types []string) string {
	for _, t := range types {
		ref += "::pg_catalog." + t + suffix
	}
	return ref
}

// operate returns a comparison or a calculation.
func operate(left, operator, right string) string {
	return "(" + left + " OPERATOR(pg_catalog." + operator + ") " + right + ")"
}

// literal returns a constant of a type of pg_catalog.
func literal(value, typ string) string { return "'" + value + "'::pg_catalog." + typ }

// newName returns a name for a subquery that does not occur in what it refers to.
func newName(ref string) string {
	for n := 1; ; n++ {
		if name := fmt.Sprintf("v%d", n); !strings.Contains(ref, name) {
			return name
		}
	}
}

// outputText is for types that somebody made: to_json would follow a cast to
// json if there is one. format writes what the output function does, and the
// comparison is also right for a composite of NULLs.
func outputText(ref string) string {
	return "CASE WHEN " + ref + " IS DISTINCT FROM NULL THEN pg_catalog.format('%s', " + ref + ") END"
}

// finite makes NULL of NaN, which Postgres holds for the largest number, and of
// the infinities.
func finite(typ string) sqlFunc {
	return func(ref string) string {
		return "CASE WHEN " + operate(ref, ">", literal("-Infinity", typ)) + " AND " +
			operate(ref, "<", literal("Infinity", typ)) + " THEN " + ref + " END"
	}
}

// between returns the condition that every element of an array is below end and,
// by the operator, above first. It is not true where one is NULL.
func between(first, operator, end, typ string) func(ref string) string {
	return func(ref string) string {
		return literal(first, typ) + " OPERATOR(pg_catalog." + operator + ") ALL (" + ref + ") AND " +
			literal(end, typ) + " OPERATOR(pg_catalog.>) ALL (" + ref + ")"
	}
}

// shortNumeric is for a numeric whose modifier keeps it from being longer than
// [maxNumber], and from being infinite.
func shortNumeric(ref string) string {
	return "CASE WHEN " + operate(ref, "<>", literal("NaN", "numeric")) + " THEN " + ref + " END"
}

// anyNumeric is for a numeric of any length. The first branch, which is meant
// for all that people store, does not have to write the number to know its length.
func anyNumeric(ref string) string {
	text := ref + "::pg_catalog.text"
	return "CASE WHEN " + operate(ref, ">", literal("-1e400", "numeric")) + " AND " + operate(ref, "<", literal("1e400", "numeric")) +
		" AND " + operate("pg_catalog.scale("+ref+")", "<", "500") + " THEN pg_catalog.to_json(" + ref + ")" +
		" WHEN " + operate(ref, "=", literal("NaN", "numeric")) +
		" OR " + operate("pg_catalog.abs("+ref+")", "=", literal("Infinity", "numeric")) + " THEN NULL" +
		" WHEN " + operate("pg_catalog.length("+text+")", ">", fmt.Sprint(maxNumber)) + " THEN pg_catalog.to_json(" + text + ")" +
		" ELSE pg_catalog.to_json(" + ref + ") END"
}

// textNumber makes a number of text that is one by the grammar of JSON.
func textNumber(ref string) string {
	text := "pg_catalog.rtrim(" + ref + "::pg_catalog.text, ' ')"
	return "CASE WHEN " + operate(text, "~", "'^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$'") +
		" AND " + operate("pg_catalog.length("+text+")", "<=", fmt.Sprint(maxNumber)) +
		" THEN " + text + "::pg_catalog.json ELSE pg_catalog.to_json(" + text + ") END"
}

func textBoolean(ref string) string {
	text := "pg_catalog.lower(pg_catalog.rtrim(" + ref + "::pg_catalog.text, ' '))"
	isOne := func(words []string) string {
		return text + " OPERATOR(pg_catalog.=) ANY (" + literal("{"+strings.Join(words, ",")+"}", "text[]") + ")"
	}
	return "CASE WHEN " + isOne(trueWords[:]) + " THEN true WHEN " + isOne(falseWords[:]) + " THEN false END"
}

// oidsJSON makes numbers of an oidvector.
func oidsJSON(ref string) string { return castTo(ref, "[]", []string{"oid", "int8"}) }

// notZero makes a boolean of an integer.
func notZero(ref string) string { return operate(ref, "<>", "0") }

// The moments that row_to_json writes as ISO 8601 has them: years of four digits.
const (
	firstMoment = "0001-01-01 00:00:00"
	endMoment   = "10000-01-01 00:00:00"
)

// dateText, timestampText and timestamptzText give text.
var (
	dateText        = momentText("date", "")
	timestampText   = momentText("timestamp", "")
	timestamptzText = momentText("timestamptz", "Z")
)

// momentText fixes the text of a date or timestamp: a T before the time, Z for
// the zone +00, years before 1 and after 9999 by the proleptic calendar, and
// NULL for the infinities.
func momentText(typ, zone string) sqlFunc {
	return func(ref string) string {
		text := ref + "::pg_catalog.text"
		iso := func(text string) string {
			switch typ {
			case "date":
				return text
			case "timestamp":
				return "pg_catalog.replace(" + text + ", ' ', 'T')"
			}
			return "pg_catalog.replace(pg_catalog.replace(" + text + ", ' ', 'T'), '+00', '" + zone + "')"
		}
		within := operate(ref, ">=", literal(firstMoment, typ)) + " AND " + operate(ref, "<", literal(endMoment, typ))
		bc := "pg_catalog.replace(" + text + ", ' BC', '')"
		year := "pg_catalog.substr(" + text + ", 1, 4)" // nothing is before 4713 BC
		return "CASE WHEN " + within + " THEN " + iso(text) +
			" WHEN NOT pg_catalog.isfinite(" + ref + ") THEN NULL" +
			" WHEN " + operate(ref, ">=", literal(endMoment, typ)) + " THEN pg_catalog.concat('+', " + iso(text) + ")" +
			" WHEN " + ref + " IS NOT NULL THEN pg_catalog.concat(CASE WHEN " + operate(year, "<>", "'0001'") + " THEN '-' END, " +
			"pg_catalog.lpad(" + operate(year+"::pg_catalog.int4", "-", "1") + "::pg_catalog.text, 4, '0'), " +
			"pg_catalog.substr(" + iso(bc) + ", 5)) END"
	}
}

// timestampJSON spares a timestamp the fixing where row_to_json does it, which
// is fastest.
func timestampJSON(ref string) string {
	return momentJSON(ref, "timestamp", timestampText)
}

func dateJSON(ref string) string { return momentJSON(ref, "date", dateText) }

func momentJSON(ref, typ string, text sqlFunc) string {
	return "CASE WHEN " + operate(ref, ">=", literal(firstMoment, typ)) + " AND " + operate(ref, "<", literal(endMoment, typ)) +
		" THEN pg_catalog.to_json(" + ref + ") ELSE pg_catalog.to_json(" + text(ref) + ") END"
}

// base64Text leaves out the line ends that encode makes.
func base64Text(ref string) string {
	return "pg_catalog.translate(pg_catalog.encode(" + ref + ", 'base64'), pg_catalog.chr(10), '')"
}

func hexText(ref string) string { return "pg_catalog.encode(" + ref + ", 'hex')" }

// cidrText is [appendCIDR].
func cidrText(ref string) string {
	text := ref + "::pg_catalog.text"
	return "CASE WHEN " + operate("pg_catalog.masklen("+ref+")", ">=", "96") + " AND " + operate(text, "~~", "'::ffff:%.%'") +
		" THEN pg_catalog.concat(pg_catalog.split_part(pg_catalog.substr(" + text + ", 8), '/', 1), '/', " +
		operate("pg_catalog.masklen("+ref+")", "-", "96") + ") ELSE " + text + " END"
}

// arraySQL transforms each element and keeps the dimensions. It is nil
// where row_to_json does that by itself.
func arraySQL(elem *Form) sqlFunc {
	switch {
	case elem.isPlain():
		return nil
	case elem.sql == nil:
		return func(ref string) string { return castTo(ref, "[]", elem.casts) }
	}
	return func(ref string) string {
		v := newName(ref)
		w := newName(ref + v)
		u := newName(ref + v + w)
		transformed := "(SELECT CASE WHEN " + operate("pg_catalog.array_ndims("+ref+")", ">", "1") + " THEN " + nestedArray(ref, w+".j", u) +
			" ELSE pg_catalog.array_to_json(" + w + ".j) END" +
			" FROM (SELECT ARRAY(SELECT " + elem.json(v+".e") + " FROM (SELECT pg_catalog.unnest(" + ref + ") AS e) " + v + ") AS j OFFSET 0) " + w +
			" WHERE " + ref + " IS NOT NULL)"
		if elem.asItIs == nil {
			return transformed
		}
		return "CASE WHEN " + elem.asItIs(ref) + " THEN pg_catalog.to_json(" + ref + ") ELSE " + transformed + " END"
	}
}

// nestedArray returns the JSON of elements, an array of one dimension, with the
// dimensions of the array ref. A bracket opens before each element whose place
// is a multiple of what a dimension holds, and closes after as many.
func nestedArray(ref, elements, name string) string {
	var sizes []string // how many elements there are in one index of each dimension; NULL: no such dimension
	for i := 1; i <= maxDimensions; i++ {
		size := fmt.Sprintf("pg_catalog.array_length(%s, %d)", ref, i)
		for j := i + 1; j <= maxDimensions; j++ {
			size = operate(size, "*", fmt.Sprintf("coalesce(pg_catalog.array_length(%s, %d), 1)", ref, j))
		}
		sizes = append(sizes, size)
	}
	brackets := func(bracket, at string) string {
		return "pg_catalog.repeat('" + bracket + "', (SELECT pg_catalog.count(*) FROM pg_catalog.unnest(" + name + ".s) d WHERE " +
			operate(operate(at, "%", "d"), "=", "0") + ")::pg_catalog.int4)"
	}
	return "(SELECT pg_catalog.string_agg(pg_catalog.concat(" + brackets("[", name+".n") + ", coalesce(" + name + ".e::pg_catalog.text, 'null'), " +
		brackets("]", operate(name+".n", "+", "1")) + "), ',' ORDER BY " + name + ".n)::pg_catalog.json" +
		" FROM (SELECT ARRAY[" + strings.Join(sizes, ", ") + "] AS s, pg_catalog.unnest(" + elements + ") AS e," +
		" pg_catalog.generate_series(0, " + operate("pg_catalog.cardinality("+elements+")", "-", "1") + ") AS n) " + name + ")"
}
