package mapping

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// A form is how the values of a type are written: to JSON, and what field of
// the index takes them by default. Each default field takes every value that
// its encoder writes: what the field cannot hold is ignored by it, and is still
// in the document. docs/types.md has the table.
//
// A value is written by the encoder from its text, or by Postgres from the SQL
// of [form.sqlOf]: the JSON values are the same.
type form struct {
	name   string // goes into fingerprints: to be changed with what encode writes
	encode encoder
	field  map[string]any          // not to be changed
	casts  []string                // types of pg_catalog to cast the value to, before row_to_json writes it
	sql    sqlFunc                 // or what else is to be done with it; nil: nothing
	asItIs func(ref string) string // SQL condition by which row_to_json is right about every element of an array; nil: none that is quick
	loose  bool                    // the JSON of the SQL may repeat keys and have line ends: it must go through [appendJSON]
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
	longField     = map[string]any{"type": "long"}
	doubleField   = map[string]any{"type": "double", "ignore_malformed": true}
	booleanField  = map[string]any{"type": "boolean"}
	keywordField  = map[string]any{"type": "keyword"}
	longestField  = map[string]any{"type": "keyword", "ignore_above": maxKeyword}
	textField     = map[string]any{"type": "text", "fields": map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": 256}}}
	dateField     = map[string]any{"type": "date", "format": dateFormat, "ignore_malformed": true}
	binaryField   = map[string]any{"type": "binary"}
	disabledField = map[string]any{"type": "object", "enabled": false}
)

// Forms of several types. A string form whose type row_to_json knows better than
// as a string casts it to text; asText does for every type.
var (
	textForm    = &form{name: "text 1", encode: appendString, field: textField}
	keywordForm = &form{name: "keyword 1", encode: appendString, field: keywordField}
	stringForm  = &form{name: "string 1", encode: appendString, field: longestField} // of every type that is not known better
	foreignForm = &form{name: "string 1", encode: appendString, field: longestField, sql: outputText}
	asText      = &form{name: "string 1", encode: appendString, field: longestField, casts: []string{"text"}}

	shortForm   = &form{name: "short 1", encode: appendNumber, field: shortField}
	integerForm = &form{name: "integer 1", encode: appendNumber, field: integerField}
	longForm    = &form{name: "long 1", encode: appendNumber, field: longField}
	wholeForm   = &form{name: "long 1", encode: appendNumber, field: longField, sql: shortNumeric} // of a numeric, which may be NaN
	oidForm     = &form{name: "long 1", encode: appendNumber, field: longField, casts: []string{"int8"}}
	xidForm     = &form{name: "long 1", encode: appendNumber, field: longField, casts: []string{"text", "int8"}}
	numericForm = &form{name: "numeric 1", encode: appendNumber, field: doubleField, sql: anyNumeric}
	decimalForm = &form{name: "numeric 1", encode: appendNumber, field: doubleField, sql: shortNumeric}

	integerBoolean = &form{name: "integer boolean 1", encode: appendNotZero, field: booleanField, sql: notZero}
	textToNumber   = &form{name: "text number 1", encode: appendTextNumber, field: doubleField, sql: textNumber}
	textToBoolean  = &form{name: "text boolean 1", encode: appendTextBoolean, field: booleanField, sql: textBoolean}
)

// forms are those of the types that come with Postgres, by default and by the
// words for as. Where "" is named too, it is the default under a name.
var forms = map[uint32]map[string]*form{
	pgtype.BoolOID: {
		"": {name: "bool 1", encode: appendBool, field: booleanField}, "boolean": nil,
		"number": {name: "bool number 1", encode: appendBit, field: shortField, casts: []string{"int4"}},
		"string": {name: "bool string 1", encode: appendTruth, field: keywordField, casts: []string{"text"}},
	},
	pgtype.Int2OID: {"": shortForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.Int4OID: {"": integerForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.Int8OID: {"": longForm, "number": nil, "boolean": integerBoolean, "string": asText},
	pgtype.OIDOID:  {"": oidForm, "number": nil},
	pgtype.XIDOID:  {"": xidForm, "number": nil},
	pgtype.CIDOID:  {"": xidForm, "number": nil},
	pgtype.Float4OID: {
		"": {name: "float 1", encode: appendNumber, field: map[string]any{"type": "float"}, sql: finite("float4"), asItIs: between("-Infinity", "<", "Infinity", "float4")}, "number": nil,
		"string": asText,
	},
	pgtype.Float8OID: {
		"": {name: "double 1", encode: appendNumber, field: map[string]any{"type": "double"}, sql: finite("float8"), asItIs: between("-Infinity", "<", "Infinity", "float8")}, "number": nil,
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
		"": {name: "date 1", encode: appendDate, field: dateField, sql: dateJSON, asItIs: between(firstMoment, "<=", endMoment, "date")}, "iso": nil, "string": asText,
	},
	pgtype.TimestampOID: {
		"": {name: "timestamp 1", encode: appendTimestamp, field: dateField, sql: timestampJSON, asItIs: between(firstMoment, "<=", endMoment, "timestamp")}, "iso": nil, "string": asText,
	},
	pgtype.TimestamptzOID: {
		"": {name: "timestamptz 1", encode: appendTimestamptz, field: dateField, sql: timestamptzText}, "iso": nil, "string": asText,
	},
	pgtype.TimeOID:   {"": keywordForm, "string": nil},
	pgtype.TimetzOID: {"": keywordForm, "string": nil},
	pgtype.IntervalOID: {
		"": keywordForm, "string": nil,
		"iso":    {name: "interval iso 1", encode: appendDuration, field: keywordField, sql: durationText},
		"number": {name: "interval seconds 1", encode: appendSeconds, field: doubleField, sql: durationSeconds},
	},

	pgtype.JSONOID: {
		"": {name: "json 1", encode: appendJSON, field: disabledField, loose: true}, "json": nil, "string": asText,
	},
	pgtype.JSONBOID: {
		"": {name: "jsonb 1", encode: appendJSONB, field: disabledField}, "json": nil, "string": asText,
	},
	pgtype.ByteaOID: {
		"": {name: "bytea 1", encode: appendBytea, field: binaryField, sql: base64Text}, "base64": nil,
		"hex":    {name: "bytea hex 1", encode: appendHex, field: longestField, sql: hexText},
		"string": asText,
	},

	pgtype.InetOID:     {"": {name: "inet 1", encode: appendString, field: map[string]any{"type": "ip", "ignore_malformed": true}}},
	pgtype.CIDROID:     {"": {name: "cidr 1", encode: appendCIDR, field: map[string]any{"type": "ip_range"}, sql: cidrText}},
	pgtype.MacaddrOID:  {"": keywordForm, "string": nil},
	pgtype.Macaddr8OID: {"": keywordForm, "string": nil},

	pgtype.PointOID: {
		"": {name: "point 1", encode: appendPoint, field: pointField, sql: pointJSON}, "json": nil,
		"geo_point": {name: "point geo_point 1", encode: appendLonLat, field: geoPointField, sql: lonLatJSON},
	},
	int2vectorOID: {"": {name: "int2vector 1", encode: appendNumbers, field: shortField}},
	oidvectorOID:  {"": {name: "oidvector 1", encode: appendNumbers, field: longField, sql: oidsJSON}},
}

// Types that pgtype does not name.
const (
	int2vectorOID = 22
	oidvectorOID  = 30
	moneyOID      = 790
	firstOwnOID   = 16384 // types from here on are those of extensions and users
)

var textForms = map[string]*form{"": textForm, "string": nil, "number": textToNumber, "boolean": textToBoolean}

// formWords are the words for as, in the order in which a message names them.
var formWords = [...]string{"string", "number", "boolean", "json", "iso", "base64", "hex", "geo_point"}

// formOf gives the form of a type. There is one for every type.
func formOf(t *Type) *form { return newForm(t, "", 0) }

// formFor gives the form of a type that as asks for, "" for the default. An
// array is written with each element in that form.
func formFor(t *Type, as string) (*form, error) {
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

// newForm gives the form of a type, depth levels down in another; nil if the
// type has none that as asks for. For "" and "string" each type has one.
func newForm(t *Type, as string, depth int) *form {
	t = t.Root()
	if t.Kind == KindArray && t.Elem != nil && depth < maxFormDepth {
		if elem := newForm(t.Elem, as, depth+1); elem != nil {
			return &form{
				name: elem.name + " array 1", encode: arrayEncoder(elem.encode, t.Elem.Delim), field: elem.field,
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

// textOf gives the form that writes the text of a value as a string, whatever
// the type is.
func textOf(t *Type) *form {
	switch {
	case t.OID >= firstOwnOID && t.Kind != KindEnum, t.Kind == KindArray, t.Kind == KindComposite:
		return foreignForm
	case t.OID == int2vectorOID, t.OID == oidvectorOID:
		return asText
	}
	return stringForm
}

// knownForms gives the forms of a type by the words for them; asItIs one for "".
func knownForms(t *Type, depth int) map[string]*form {
	deep := depth >= maxFormDepth
	switch {
	case t.OID == pgtype.NumericOID:
		return map[string]*form{"": numericOf(t.Modifier), "number": nil, "string": asText}
	case t.OID == moneyOID:
		return map[string]*form{"": stringForm, "number": {
			name: "money number 1", encode: moneyEncoder(t.Fraction), field: doubleField, sql: moneyNumber,
		}}
	case forms[t.OID] != nil:
		return forms[t.OID]
	case t.Kind == KindEnum:
		return map[string]*form{"": keywordForm, "string": nil}
	case t.Kind == KindComposite && !deep:
		return map[string]*form{"": compositeForm(t, depth), "json": nil}
	case t.Kind == KindRange && t.Elem != nil && !deep:
		if f := rangeForm(t, depth); f != nil {
			return map[string]*form{"": f, "json": nil}
		}
	case t.Kind == KindMultirange && t.Elem != nil && !deep:
		if f := multirangeForm(t, depth); f != nil {
			return map[string]*form{"": f, "json": nil}
		}
	case t.Extension != "" && t.Kind == KindBase:
		if known := extensionForms(t); known != nil {
			return known
		}
	}
	if t.Kind == KindBase && t.Category == 'S' { // citext
		return textForms
	}
	return map[string]*form{"": textOf(t)}
}

// extensionForms gives the forms of the types of extensions that are known by
// name; nil for others.
func extensionForms(t *Type) map[string]*form {
	switch {
	case t.isPart("hstore", "hstore"):
		return map[string]*form{"": hstoreForm, "json": nil}
	case t.isPart("vector", "vector"), t.isPart("vector", "halfvec"):
		return map[string]*form{"": vectorForm, "json": nil}
	case t.isPart("vector", "sparsevec"):
		return map[string]*form{"": sparseForm, "json": nil}
	case t.isPart("postgis", "geometry"), t.isPart("postgis", "geography"):
		return geometryForms(t)
	}
	return nil
}

// numericOf gives the form of a numeric by its modifier.
func numericOf(modifier int32) *form {
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
