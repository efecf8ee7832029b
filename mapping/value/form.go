package value

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

// A Form is how the values of a type are written: to JSON, and what field of
// the index takes them by default. Each default field takes every value that
// its encoder writes: what the field cannot hold is ignored by it, and is still
// in the document. docs/types.md has the table.
//
// A value is written by the encoder from its text, or by Postgres from the SQL
// of [Form.SQL]: the JSON values are the same.
type Form struct {
	Name   string // goes into fingerprints: to be changed with what encode writes
	Encode Encoder
	Field  map[string]any          // not to be changed
	casts  []string                // types of pg_catalog to cast the value to, before row_to_json writes it
	sql    sqlFunc                 // or what else is to be done with it; nil: nothing
	asItIs func(ref string) string // SQL condition by which row_to_json is right about every element of an array; nil: none that is quick
	loose  bool                    // the JSON of the SQL may repeat keys and have line ends: it must go through [AppendJSON]
}

// maxKeyword is the length, in characters, from which on a keyword is not
// indexed: a term has at most 32,766 bytes, a character at most four.
const maxKeyword = 8191

// dateFormat takes every date that Postgres has. The first two formats are the
// default; on Elasticsearch they end with the year 9999, so the last one is for
// years of more digits. Answers are in the first.
const dateFormat = "strict_date_optional_time||epoch_millis||" +
	"uuuu-MM-dd['T'HH:mm:ss[.SSSSSS][.SSSSS][.SSSS][.SSS][.SS][.S][XXXXX]]"

// Fields of several types.
var (
	shortField    = map[string]any{"type": "short"}
	integerField  = map[string]any{"type": "integer"}
	LongField     = map[string]any{"type": "long"}
	DoubleField   = map[string]any{"type": "double", "ignore_malformed": true}
	booleanField  = map[string]any{"type": "boolean"}
	KeywordField  = map[string]any{"type": "keyword"}
	longestField  = map[string]any{"type": "keyword", "ignore_above": maxKeyword}
	TextField     = map[string]any{"type": "text", "fields": map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": 256}}}
	DateField     = map[string]any{"type": "date", "format": dateFormat, "ignore_malformed": true}
	binaryField   = map[string]any{"type": "binary"}
	DisabledField = map[string]any{"type": "object", "enabled": false}
)

// Forms of several types. A string form whose type row_to_json knows better than
// as a string casts it to text; asText does for every type.
var (
	textForm    = &Form{Name: "text 1", Encode: jsontext.Append, Field: TextField}
	keywordForm = &Form{Name: "keyword 1", Encode: jsontext.Append, Field: KeywordField}
	stringForm  = &Form{Name: "string 1", Encode: jsontext.Append, Field: longestField} // of every type that is not known better
	foreignForm = &Form{Name: "string 1", Encode: jsontext.Append, Field: longestField, sql: outputText}
	asText      = &Form{Name: "string 1", Encode: jsontext.Append, Field: longestField, casts: []string{"text"}}

	shortForm   = &Form{Name: "short 1", Encode: appendNumber, Field: shortField}
	integerForm = &Form{Name: "integer 1", Encode: appendNumber, Field: integerField}
	longForm    = &Form{Name: "long 1", Encode: appendNumber, Field: LongField}
	wholeForm   = &Form{Name: "long 1", Encode: appendNumber, Field: LongField, sql: shortNumeric} // of a numeric, which may be NaN
	oidForm     = &Form{Name: "long 1", Encode: appendNumber, Field: LongField, casts: []string{"int8"}}
	xidForm     = &Form{Name: "long 1", Encode: appendNumber, Field: LongField, casts: []string{"text", "int8"}}
	numericForm = &Form{Name: "numeric 1", Encode: appendNumber, Field: DoubleField, sql: anyNumeric}
	decimalForm = &Form{Name: "numeric 1", Encode: appendNumber, Field: DoubleField, sql: shortNumeric}

	integerBoolean = &Form{Name: "integer boolean 1", Encode: appendNotZero, Field: booleanField, sql: notZero}
	textToNumber   = &Form{Name: "text number 1", Encode: appendTextNumber, Field: DoubleField, sql: textNumber}
	textToBoolean  = &Form{Name: "text boolean 1", Encode: appendTextBoolean, Field: booleanField, sql: textBoolean}
)

// forms are those of the types that come with Postgres, by default and by the
// words for as. Where "" is named too, it is the default under a name.
var forms = map[uint32]map[string]*Form{
	pgtype.BoolOID: {
		"": {Name: "bool 1", Encode: appendBool, Field: booleanField}, "boolean": nil,
		"number": {Name: "bool number 1", Encode: appendBit, Field: shortField, casts: []string{"int4"}},
		"string": {Name: "bool string 1", Encode: appendTruth, Field: KeywordField, casts: []string{"text"}},
	},
	pgtype.Int2OID: {"": shortForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.Int4OID: {"": integerForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.Int8OID: {"": longForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.OIDOID:  {"": oidForm, "number": nil},
	pgtype.XIDOID:  {"": xidForm, "number": nil},
	pgtype.CIDOID:  {"": xidForm, "number": nil},
	pgtype.Float4OID: {
		"": {Name: "float 1", Encode: appendNumber, Field: map[string]any{"type": "float"}, sql: finite("float4"), asItIs: between("-Infinity", "<", "Infinity", "float4")}, "number": nil,
		"string": asText,
	},
	pgtype.Float8OID: {
		"": {Name: "double 1", Encode: appendNumber, Field: map[string]any{"type": "double"}, sql: finite("float8"), asItIs: between("-Infinity", "<", "Infinity", "float8")}, "number": nil,
		"string": asText,
	},
	pgtype.NumericOID: {"": numericForm, "number": nil, "string": asText},

	pgtype.TextOID:    textForms,
	pgtype.VarcharOID: textForms,
	pgtype.BPCharOID:  textForms,
	pgtype.NameOID:    textForms,
	pgtype.QCharOID:   {"": keywordForm, "string": nil, "number": textToNumber, "boolean": textToBoolean},
	pgtype.XMLOID:     {"": textForm, "string": nil},
	pgtype.UUIDOID:    {"": keywordForm, "string": nil},

	pgtype.DateOID: {
		"": {Name: "date 1", Encode: appendDate, Field: DateField, sql: dateJSON, asItIs: between(firstMoment, "<=", endMoment, "date")}, "iso": nil, "string": asText,
	},
	pgtype.TimestampOID: {
		"": {Name: "timestamp 1", Encode: appendTimestamp, Field: DateField, sql: timestampJSON, asItIs: between(firstMoment, "<=", endMoment, "timestamp")}, "iso": nil, "string": asText,
	},
	pgtype.TimestamptzOID: {
		"": {Name: "timestamptz 1", Encode: appendTimestamptz, Field: DateField, sql: timestamptzText}, "iso": nil, "string": asText,
	},
	pgtype.TimeOID:   {"": keywordForm, "string": nil},
	pgtype.TimetzOID: {"": keywordForm, "string": nil},
	pgtype.IntervalOID: {
		"": keywordForm, "string": nil,
		"iso":    {Name: "interval iso 1", Encode: appendDuration, Field: KeywordField, sql: durationText},
		"number": {Name: "interval seconds 1", Encode: appendSeconds, Field: DoubleField, sql: durationSeconds},
	},

	pgtype.JSONOID: {
		"": {Name: "json 1", Encode: AppendJSON, Field: DisabledField, loose: true}, "json": nil, "string": asText,
	},
	pgtype.JSONBOID: {
		"": {Name: "jsonb 1", Encode: appendJSONB, Field: DisabledField}, "json": nil, "string": asText,
	},
	pgtype.ByteaOID: {
		"": {Name: "bytea 1", Encode: appendBytea, Field: binaryField, sql: base64Text}, "base64": nil,
		"hex":    {Name: "bytea hex 1", Encode: appendHex, Field: longestField, sql: hexText},
		"string": asText,
	},

	pgtype.InetOID:     {"": {Name: "inet 1", Encode: jsontext.Append, Field: map[string]any{"type": "ip", "ignore_malformed": true}}},
	pgtype.CIDROID:     {"": {Name: "cidr 1", Encode: appendCIDR, Field: map[string]any{"type": "ip_range"}, sql: cidrText}},
	pgtype.MacaddrOID:  {"": keywordForm, "string": nil},
	pgtype.Macaddr8OID: {"": keywordForm, "string": nil},

	pgtype.PointOID: {
		"": {Name: "point 1", Encode: appendPoint, Field: pointField, sql: pointJSON}, "json": nil,
		"geo_point": {Name: "point geo_point 1", Encode: appendLonLat, Field: geoPointField, sql: lonLatJSON},
	},
	int2vectorOID: {"": {Name: "int2vector 1", Encode: appendNumbers, Field: shortField}},
	oidvectorOID:  {"": {Name: "oidvector 1", Encode: appendNumbers, Field: LongField, sql: oidsJSON}},
}

// Types that pgtype does not name.
const (
	int2vectorOID = 22
	oidvectorOID  = 30
	firstOwnOID   = 16384 // types from here on are those of extensions and users
)

var textForms = map[string]*Form{"": textForm, "string": nil, "number": textToNumber, "boolean": textToBoolean}

// formWords are the words for as, in the order in which a message names them.
var formWords = [...]string{"string", "number", "boolean", "json", "iso", "base64", "hex", "geo_point"}

// FormOf returns the form of a type. There is one for every type.
func FormOf(t *catalog.Type) *Form { return newForm(t, "", 0) }

// FormFor returns the form of a type that as asks for, "" for the default. An
// array is written with each element in that form.
func FormFor(t *catalog.Type, as string) (*Form, error) {
	if f := newForm(t, as, 0); f != nil {
		return f, nil
	}
	var words []string
	for _, word := range formWords {
		if newForm(t, word, 0) != nil {
			words = append(words, word)
		}
	}
	return nil, fmt.Errorf("a value of type %s cannot be written as %q: want %s", t.Name, as, oneOf(words))
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// maxFormDepth is how many composites, ranges and arrays of types may be within
// each other in a form. What is deeper becomes a string: an index takes 20 levels.
const maxFormDepth = 8

// newForm returns the form of a type, depth levels down in another; nil if the
// type has none that as asks for. For "" and "string" each type has one.
func newForm(t *catalog.Type, as string, depth int) *Form {
	t = t.Root()
	if t.Kind == catalog.KindArray && t.Elem != nil && depth < maxFormDepth {
		if elem := newForm(t.Elem, as, depth+1); elem != nil {
			return &Form{
				Name: elem.Name + " array 1", Encode: arrayEncoder(elem.Encode, t.Elem.Delim), Field: elem.Field,
				sql: arraySQL(elem), loose: elem.loose,
			}
		}
		return nil
	}
	known := knownForms(t, depth)
	f, ok := known[as]
	if ok && f == nil { // a name for the default
		f = known[""]
	}
	if !ok && as == "string" {
		return textOf(t)
	}
	return f
}

// textOf returns the form that writes the text of a value as a string, whatever
// the type is.
func textOf(t *catalog.Type) *Form {
	switch {
	case t.OID >= firstOwnOID && t.Kind != catalog.KindEnum, t.Kind == catalog.KindArray, t.Kind == catalog.KindComposite:
		return foreignForm
	case t.OID == int2vectorOID, t.OID == oidvectorOID:
		return asText
	}
	return stringForm
}

// knownForms returns the forms of a type by the words for them; asItIs one for "".
func knownForms(t *catalog.Type, depth int) map[string]*Form {
	deep := depth >= maxFormDepth
	switch {
	case t.OID == pgtype.NumericOID:
		return map[string]*Form{"": numericOf(t.Modifier), "number": nil, "string": asText}
	case t.OID == moneyOID:
		return moneyForms(t.Fraction)
	case forms[t.OID] != nil:
		return forms[t.OID]
	case t.Kind == catalog.KindEnum:
		return map[string]*Form{"": keywordForm, "string": nil}
	case t.Kind == catalog.KindComposite && !deep:
		return map[string]*Form{"": compositeForm(t, depth), "json": nil}
	case t.Kind == catalog.KindRange && t.Elem != nil && !deep:
		if f := rangeForm(t, depth); f != nil {
			return map[string]*Form{"": f, "json": nil}
		}
	case t.Kind == catalog.KindMultirange && t.Elem != nil && !deep:
		if f := multirangeForm(t, depth); f != nil {
			return map[string]*Form{"": f, "json": nil}
		}
	case t.Extension != "" && t.Kind == catalog.KindBase:
		if known := extensionForms(t); known != nil {
			return known
		}
	}
	if t.Kind == catalog.KindBase && t.Category == 'S' { // citext
		return textForms
	}
	return map[string]*Form{"": textOf(t)}
}

// extensionForms returns the forms of the types of extensions that are known by
// name; nil for others.
func extensionForms(t *catalog.Type) map[string]*Form {
	switch {
	case t.IsPart("hstore", "hstore"):
		return map[string]*Form{"": hstoreForm, "json": nil}
	case t.IsPart("vector", "vector"), t.IsPart("vector", "halfvec"):
		return map[string]*Form{"": vectorForm, "json": nil}
	case t.IsPart("vector", "sparsevec"):
		return map[string]*Form{"": sparseForm, "json": nil}
	case t.IsPart("postgis", "geometry"), t.IsPart("postgis", "geography"):
		return geometryForms(t)
	}
	return nil
}

// numericOf returns the form of a numeric by its modifier.
func numericOf(modifier int32) *Form {
	if modifier < 4 {
		return numericForm
	}
	precision := (modifier - 4) >> 16 & 0xFFFF
	scale := (modifier - 4) & 0x7FF // eleven bits with a sign: since Postgres 15 it may be negative
	if scale >= 1024 {
		scale -= 2048
	}
	switch {
	case scale <= 0 && precision-scale <= 18:
		return wholeForm
	case precision+max(scale, 0, -scale) < maxNumber-3: // a sign, a zero and a point
		return decimalForm
	}
	return numericForm
}

// NobodySearches reports whether nobody searches by values of a type as they are, so that
// documents do without a column of it unless the mapping names it: a tsvector is an index of
// words for Postgres, derived from text that the search server takes apart itself.
func NobodySearches(t *catalog.Type) bool {
	t = t.Root()
	for t.Kind == catalog.KindArray && t.Elem != nil {
		t = t.Elem.Root()
	}
	return t.OID == pgtype.TSVectorOID
}
