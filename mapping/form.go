package mapping

import "github.com/jackc/pgx/v5/pgtype"

// A form is how the values of a type are written: to JSON, and what field of
// the index takes them by default. Each default field takes every value that
// its encoder writes: what the field cannot hold is ignored by it, and is still
// in the document. docs/types.md has the table.
type form struct {
	name   string // goes into fingerprints: to be changed with what encode writes
	encode encoder
	field  map[string]any // not to be changed
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
	longField     = map[string]any{"type": "long"}
	doubleField   = map[string]any{"type": "double", "ignore_malformed": true}
	keywordField  = map[string]any{"type": "keyword"}
	longestField  = map[string]any{"type": "keyword", "ignore_above": maxKeyword}
	textField     = map[string]any{"type": "text", "fields": map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": 256}}}
	dateField     = map[string]any{"type": "date", "format": dateFormat, "ignore_malformed": true}
	disabledField = map[string]any{"type": "object", "enabled": false}
)

var (
	textForm    = &form{"text 1", appendString, textField}
	keywordForm = &form{"keyword 1", appendString, keywordField}
	stringForm  = &form{"string 1", appendString, longestField} // of every type that is not known better
	longForm    = &form{"long 1", appendNumber, longField}
	numericForm = &form{"numeric 1", appendNumber, doubleField}
)

// forms are those of the types that come with Postgres.
var forms = map[uint32]*form{
	pgtype.BoolOID:   {"bool 1", appendBool, map[string]any{"type": "boolean"}},
	pgtype.Int2OID:   {"short 1", appendNumber, map[string]any{"type": "short"}},
	pgtype.Int4OID:   {"integer 1", appendNumber, map[string]any{"type": "integer"}},
	pgtype.Int8OID:   longForm,
	pgtype.OIDOID:    longForm,
	pgtype.XIDOID:    longForm,
	pgtype.CIDOID:    longForm,
	pgtype.Float4OID: {"float 1", appendNumber, map[string]any{"type": "float"}},
	pgtype.Float8OID: {"double 1", appendNumber, map[string]any{"type": "double"}},

	pgtype.TextOID:    textForm,
	pgtype.VarcharOID: textForm,
	pgtype.BPCharOID:  textForm,
	pgtype.NameOID:    textForm,
	pgtype.XMLOID:     textForm,
	pgtype.QCharOID:   keywordForm,
	pgtype.UUIDOID:    keywordForm,

	pgtype.DateOID:        {"date 1", appendDate, dateField},
	pgtype.TimestampOID:   {"timestamp 1", appendTimestamp, dateField},
	pgtype.TimestamptzOID: {"timestamptz 1", appendTimestamptz, dateField},
	pgtype.TimeOID:        keywordForm,
	pgtype.TimetzOID:      keywordForm,
	pgtype.IntervalOID:    keywordForm,

	pgtype.JSONOID:  {"json 1", appendJSON, disabledField},
	pgtype.JSONBOID: {"jsonb 1", appendJSONB, disabledField},
	pgtype.ByteaOID: {"bytea 1", appendBytea, map[string]any{"type": "binary"}},

	pgtype.InetOID:     {"inet 1", appendString, map[string]any{"type": "ip", "ignore_malformed": true}},
	pgtype.CIDROID:     {"cidr 1", appendCIDR, map[string]any{"type": "ip_range"}},
	pgtype.MacaddrOID:  keywordForm,
	pgtype.Macaddr8OID: keywordForm,
}

// formOf gives the form of a type. There is one for every type.
func formOf(t *Type) *form {
	t = t.Root()
	switch {
	case t.Kind == KindArray && t.Elem != nil:
		elem := formOf(t.Elem)
		return &form{elem.name + " array 1", arrayEncoder(elem.encode, t.Elem.Delim), elem.field}
	case t.OID == pgtype.NumericOID:
		if isLong(t.Modifier) {
			return longForm
		}
		return numericForm
	case forms[t.OID] != nil:
		return forms[t.OID]
	case t.Kind == KindEnum:
		return keywordForm
	case t.Kind == KindBase && t.Category == 'S': // citext
		return textForm
	}
	return stringForm
}

// isLong reports whether a numeric with this modifier is an integer of at most
// 18 digits.
func isLong(modifier int32) bool {
	if modifier < 4 {
		return false
	}
	precision := (modifier - 4) >> 16 & 0xFFFF
	scale := (modifier - 4) & 0x7FF // eleven bits with a sign: since Postgres 15 it may be negative
	if scale >= 1024 {
		scale -= 2048
	}
	return scale <= 0 && precision-scale <= 18
}
