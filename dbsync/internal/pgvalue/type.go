package pgvalue

import "strings"

// A valueType is what is known about the values of one Postgres type.
type valueType struct {
	// decode turns the text form into a Go value, false if it is not valid. nil: the
	// value is the text.
	decode func(text []byte) (any, bool)

	// render appends the text form of a value in binary form to dst, false if it is not
	// valid. nil: the binary form is not known.
	render func(dst, in []byte) ([]byte, bool)
}

// valueTypes holds the built-in types and their arrays under all their names. It is
// never written after initialization, so any number of goroutines may read it.
var valueTypes = builtinTypes()

// typeAliases maps pg_type.typname to what format_type writes instead.
var typeAliases = map[string]string{
	"bool":        "boolean",
	"int2":        "smallint",
	"int4":        "integer",
	"int8":        "bigint",
	"float4":      "real",
	"float8":      "double precision",
	"varchar":     "character varying",
	"bpchar":      "character",
	"char":        `"char"`, // the one-byte type; SQL's char is "character" here
	"bit":         `"bit"`,  // how format_type writes bit without a length
	"varbit":      "bit varying",
	"time":        "time without time zone",
	"timetz":      "time with time zone",
	"timestamp":   "timestamp without time zone",
	"timestamptz": "timestamp with time zone",
}

func builtinTypes() map[string]*valueType {
	const comma, semicolon = ',', ';'
	types := make(map[string]*valueType)
	add := func(name string, delim byte, t valueType) {
		array := arrayOf(t, delim)
		types[name] = &t
		types[name+"[]"] = &array
		types["_"+name] = &array
		if alias, ok := typeAliases[name]; ok {
			types[alias] = &t
			types[alias+"[]"] = &array
		}
	}

	add("bool", comma, valueType{decodeBool, renderBool})
	add("int2", comma, valueType{decodeInt2, renderInt2})
	add("int4", comma, valueType{decodeInt4, renderInt4})
	add("int8", comma, valueType{decodeInt8, renderInt8})
	add("float4", comma, valueType{decodeFloat4, renderFloat4})
	add("float8", comma, valueType{decodeFloat8, renderFloat8})
	add("numeric", comma, valueType{decodeNumeric, renderNumeric})
	add("money", comma, valueType{nil, renderMoney})
	add("bytea", comma, valueType{decodeBytea, renderBytea})
	add("date", comma, valueType{decodeDate, renderDate})
	add("timestamp", comma, valueType{decodeTimestamp, renderTimestamp})
	add("timestamptz", comma, valueType{decodeTimestamptz, renderTimestamptz})
	add("time", comma, valueType{nil, renderTime})
	add("timetz", comma, valueType{nil, renderTimetz})
	add("interval", comma, valueType{nil, renderInterval})
	add("json", comma, valueType{decodeJSON, renderText})
	add("jsonb", comma, valueType{decodeJSON, renderVersioned})
	add("jsonpath", comma, valueType{nil, renderVersioned})
	add("inet", comma, valueType{decodeInet, renderInet})
	add("cidr", comma, valueType{decodeCIDR, renderCIDR})
	add("macaddr", comma, valueType{nil, renderMACAddr})
	add("macaddr8", comma, valueType{nil, renderMACAddr8})
	add("uuid", comma, valueType{nil, renderUUID})
	add("bit", comma, valueType{nil, renderBits})
	add("varbit", comma, valueType{nil, renderBits})
	add("char", comma, valueType{nil, renderQChar})

	// citext belongs to an extension, but one that is installed nearly everywhere.
	for _, name := range []string{"text", "varchar", "bpchar", "name", "xml", "refcursor", "unknown", "pg_node_tree", "citext"} {
		add(name, comma, valueType{nil, renderText})
	}
	for _, name := range []string{"oid", "xid", "cid"} {
		add(name, comma, valueType{decodeUint4, renderUint4})
	}
	for _, name := range []string{"xid8", "oid8"} {
		add(name, comma, valueType{decodeUint8, renderUint8})
	}
	for _, name := range []string{"regclass", "regcollation", "regconfig", "regdatabase", "regdictionary", "regnamespace",
		"regoper", "regoperator", "regproc", "regprocedure", "regrole", "regtype"} {
		add(name, comma, valueType{nil, renderUint4})
	}
	add("tid", comma, valueType{nil, renderTID})
	add("pg_lsn", comma, valueType{nil, renderLSN})
	add("pg_snapshot", comma, valueType{nil, renderSnapshot})
	add("txid_snapshot", comma, valueType{nil, renderSnapshot})
	add("int2vector", comma, valueType{vectorOf(decodeInt2), renderVector(renderInt2)})
	add("oidvector", comma, valueType{vectorOf(decodeUint4), renderVector(renderUint4)})

	add("point", comma, valueType{nil, renderPoint})
	add("lseg", comma, valueType{nil, renderLseg})
	add("line", comma, valueType{nil, renderLine})
	add("box", semicolon, valueType{nil, renderBox})
	add("path", comma, valueType{nil, renderPath})
	add("polygon", comma, valueType{nil, renderPolygon})
	add("circle", comma, valueType{nil, renderCircle})

	add("tsvector", comma, valueType{nil, renderTSVector})
	add("tsquery", comma, valueType{nil, renderTSQuery})

	for name, bound := range map[string]func(dst, in []byte) ([]byte, bool){
		"int4": renderInt4, "int8": renderInt8, "num": renderNumeric,
		"date": renderDate, "ts": renderTimestamp, "tstz": renderTimestamptz,
	} {
		add(name+"range", comma, valueType{nil, renderRange(bound)})
		add(name+"multirange", comma, valueType{nil, renderMultirange(bound)})
	}

	// aclitem and gtsvector have no binary form; that of the others is the planner's own.
	for _, name := range []string{"aclitem", "gtsvector", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
		"pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"} {
		add(name, comma, valueType{})
	}
	return types
}

// arrayDelims names the types outside the built-in ones whose arrays are known not to be
// separated by commas: those of PostGIS.
var arrayDelims = map[string]byte{"geometry": ':', "geography": ':'}

// lookupType returns what is known about the type of that name, nil if nothing is.
func lookupType(name string) *valueType {
	if t, ok := valueTypes[name]; ok {
		return t
	}
	name = strings.TrimPrefix(withoutModifier(name), "pg_catalog.")
	if t, ok := valueTypes[name]; ok {
		return t
	}
	base, isArray := strings.CutSuffix(name, "[]")
	base = unqualified(base)
	if base == "citext" { // in whichever schema the extension was put
		if isArray {
			return valueTypes["citext[]"]
		}
		return valueTypes["citext"]
	}
	if isArray {
		delim, ok := arrayDelims[base]
		if !ok {
			delim = ','
		}
		t := arrayOf(valueType{}, delim)
		return &t
	}
	return nil
}

// withoutModifier drops a type modifier: "numeric(10,2)[]" is "numeric[]", "timestamp(3)
// with time zone" is "timestamp with time zone", "interval day to second" is "interval".
func withoutModifier(name string) string {
	if before, rest, ok := strings.Cut(name, "("); ok && !strings.Contains(before, `"`) {
		if _, after, ok := strings.Cut(rest, ")"); ok {
			name = before + after
		}
	}
	if fields, ok := strings.CutPrefix(name, "interval "); ok {
		name = "interval"
		if strings.HasSuffix(fields, "[]") {
			name = "interval[]"
		}
	}
	return name
}

// unqualified drops the schema of a type's name.
func unqualified(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 && !strings.HasSuffix(name, `"`) {
		return name[i+1:]
	}
	return name
}
