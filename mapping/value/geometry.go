package value

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

// A geometry or geography of PostGIS is, as text, its extended well-known binary
// in hex digits. It becomes GeoJSON, with up to nine digits after the point and
// the Z of a position, as ST_AsGeoJSON writes it; M and the SRID are left out.
// What GeoJSON has no form for stays the string that it is: curves, surfaces and
// coordinates that are not numbers; and so does what versions of PostGIS write
// differently or wrong: collections in collections, and parts that are empty.

// geometryForms returns the forms of a geometry or geography. A column that holds
// points of longitude and latitude alone becomes a geo_point, which every build of
// every search server has, and which takes several values. The fields for other
// shapes do not: the default keeps them out of search.
func geometryForms(t *catalog.Type) map[string]*Form {
	schema := catalog.QuoteIdent(t.Schema)
	shape := &Form{Name: t.Plain + " 1", Encode: appendGeoJSON, Field: DisabledField, sql: geoJSON(schema)}
	point := &Form{Name: t.Plain + " geo_point 1", Encode: appendEWKBPoint, Field: geoPointField, sql: geometryPoint(schema)}
	if isLonLat(t.Modifier) {
		return map[string]*Form{"": point, "geo_point": nil, "json": shape}
	}
	return map[string]*Form{"": shape, "json": nil, "geo_point": point}
}

// isLonLat reports whether a geometry with this modifier is a point, without an
// SRID or with that of longitude and latitude.
func isLonLat(modifier int32) bool {
	const point, wgs84 = 1, 4326
	kind, srid := modifier>>2&0x3F, modifier>>8&0xFFFFF
	return modifier >= 0 && kind == point && (srid == 0 || srid == wgs84)
}

// appendGeoJSON writes a geometry as GeoJSON.
func appendGeoJSON(dst, text []byte) []byte {
	start := len(dst)
	r := ewkb{text: text}
	dst = r.appendGeometry(dst, false)
	if r.bad || r.at != len(text) {
		return jsontext.Append(dst[:start], text)
	}
	return dst
}

// appendEWKBPoint writes a point for a geo_point: {"lat":2.5,"lon":1}. Any other
// geometry is null, and so is a point far beyond the earth: of the shortest digits
// of a large number there may be several, of which Postgres takes others than we do.
func appendEWKBPoint(dst, text []byte) []byte {
	r := ewkb{text: text}
	h := r.header()
	lon, lat := r.float(), r.float()
	if r.bad || h.kind != wkbPoint || !(math.Abs(lon) < 1e15 && math.Abs(lat) < 1e15) {
		return append(dst, "null"...)
	}
	dst = strconv.AppendFloat(append(dst, `{"lat":`...), lat, 'g', -1, 64)
	dst = strconv.AppendFloat(append(dst, `,"lon":`...), lon, 'g', -1, 64)
	return append(dst, '}')
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Kinds of geometries, and what else the type of EWKB says.
const (
	wkbPoint = 1 + iota
	wkbLine
	wkbPolygon
	wkbMultiPoint
	wkbMultiLine
	wkbMultiPolygon
	wkbCollection

	wkbHasZ    = 1 << 31
	wkbHasM    = 1 << 30
	wkbHasSRID = 1 << 29
)

var geoJSONTypes = [...]string{
	wkbPoint: "Point", wkbLine: "LineString", wkbPolygon: "Polygon", wkbMultiPoint: "MultiPoint",
	wkbMultiLine: "MultiLineString", wkbMultiPolygon: "MultiPolygon", wkbCollection: "GeometryCollection",
}

// An ewkb reads extended well-known binary from hex digits. After the first
// thing that is wrong it is bad, and gives zeros.
type ewkb struct {
	text []byte
	at   int
	bad  bool
	big  bool // byte order of the geometry that is read
}

type wkbHeader struct {
	kind uint32
	z, m bool
}

// take returns n bytes, at most eight.
func (r *ewkb) take(raw *[8]byte, n int) []byte {
	if r.bad || len(r.text)-r.at < 2*n {
		r.bad = true
		return raw[:n]
	}
	if _, err := hex.Decode(raw[:n], r.text[r.at:r.at+2*n]); err != nil {
		r.bad = true
	}
	r.at += 2 * n
	return raw[:n]
}

func (r *ewkb) uint32() uint32 {
	var raw [8]byte
	four := r.take(&raw, 4)
	if r.big {
		return binary.BigEndian.Uint32(four)
	}
	return binary.LittleEndian.Uint32(four)
}

func (r *ewkb) float() float64 {
	var raw [8]byte
	eight := r.take(&raw, 8)
	if r.big {
		return math.Float64frombits(binary.BigEndian.Uint64(eight))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(eight))
}

// count reads how many parts follow, of at least size bytes each: some, if the
// geometry is part of another.
func (r *ewkb) count(size int, within bool) int {
	n := r.uint32()
	if r.bad || within && n == 0 || int64(n)*int64(size)*2 > int64(len(r.text)-r.at) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *ewkb) header() wkbHeader {
	var raw [8]byte
	switch r.take(&raw, 1)[0] {
	case 0:
		r.big = true
	case 1:
		r.big = false
	default:
		r.bad = true
	}
	t := r.uint32()
	if t&wkbHasSRID != 0 {
		r.uint32()
	}
	h := wkbHeader{kind: t &^ (wkbHasZ | wkbHasM | wkbHasSRID), z: t&wkbHasZ != 0, m: t&wkbHasM != 0}
	if h.kind < wkbPoint || h.kind > wkbCollection {
		r.bad = true
	}
	return h
}

// appendGeometry writes one geometry with all that is in it.
func (r *ewkb) appendGeometry(dst []byte, within bool) []byte {
	h := r.header()
	if r.bad {
		return dst
	}
	dst = append(append(dst, `{"type":"`...), geoJSONTypes[h.kind]...)
	if h.kind != wkbCollection {
		dst = r.appendCoordinates(append(dst, `","coordinates":`...), h, within)
		return append(dst, '}')
	}
	dst = append(dst, `","geometries":[`...)
	r.bad = r.bad || within
	for i := range r.count(5, within) {
		if r.bad {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.appendGeometry(dst, true)
	}
	return append(dst, "]}"...)
}

// appendCoordinates writes the coordinates of a geometry that is no collection.
// One that is part of another must have some.
func (r *ewkb) appendCoordinates(dst []byte, h wkbHeader, within bool) []byte {
	switch h.kind {
	case wkbPoint:
		return r.appendPoint(dst, h, within)
	case wkbLine:
		return r.appendLine(dst, h, within)
	}
	dst = append(dst, '[')
	for i := range r.count(4, within) {
		if r.bad {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if h.kind == wkbPolygon {
			dst = r.appendLine(dst, h, true)
			continue
		}
		part := r.header()
		if part.kind != h.kind-wkbMultiPoint+wkbPoint {
			r.bad = true
			return dst
		}
		dst = r.appendCoordinates(dst, part, true)
	}
	return append(dst, ']')
}

// appendLine writes a number of positions, of a line or the ring of a polygon.
func (r *ewkb) appendLine(dst []byte, h wkbHeader, within bool) []byte {
	dst = append(dst, '[')
	for i := range r.count(16, within) {
		if r.bad {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.appendPosition(dst, h, r.float(), r.float())
	}
	return append(dst, ']')
}

// appendPoint writes a position, or the empty point, which has NaN for one.
func (r *ewkb) appendPoint(dst []byte, h wkbHeader, within bool) []byte {
	x, y := r.float(), r.float()
	if math.IsNaN(x) && math.IsNaN(y) {
		r.bad = r.bad || within
		if h.z {
			r.float()
		}
		if h.m {
			r.float()
		}
		return append(dst, "[]"...)
	}
	return r.appendPosition(dst, h, x, y)
}

// appendPosition writes a position of which x and y have been read.
func (r *ewkb) appendPosition(dst []byte, h wkbHeader, x, y float64) []byte {
	dst = r.appendCoordinate(append(dst, '['), x)
	dst = r.appendCoordinate(append(dst, ','), y)
	if h.z {
		dst = r.appendCoordinate(append(dst, ','), r.float())
	}
	if h.m {
		r.float()
	}
	return append(dst, ']')
}

// maxDecimals is how many digits a coordinate has after the point, which for a
// longitude is a tenth of a millimeter: the default of ST_AsGeoJSON.
const maxDecimals = 9

// appendCoordinate writes a number as PostGIS does: its shortest digits, rounded
// to [maxDecimals], half to even. Where PostGIS writes an exponent, that is so for
// the digits before it.
func (r *ewkb) appendCoordinate(dst []byte, v float64) []byte {
	if !isFinite(v) {
		r.bad = true
		return dst
	}
	var room [32]byte
	text := strconv.AppendFloat(room[:0], math.Abs(v), 'e', -1, 64) // d.ddde±dd
	e := bytes.IndexByte(text, 'e')
	exponent, _ := strconv.Atoi(string(text[e+1:]))
	digits := append(text[:1], text[min(2, e):e]...) // a number of 0.ddd × 10^(exponent+1)
	decimals := len(digits) - 1 - exponent
	scientific := v != 0 && (math.Abs(v) <= 1e-8 || math.Abs(v) >= 1e15)
	keep := len(digits)
	switch {
	case scientific:
		keep = min(keep, 1+maxDecimals)
	case decimals > maxDecimals:
		keep -= decimals - maxDecimals
	}
	digits, carried := roundDigits(digits, keep)
	if carried {
		exponent++
	}
	if v < 0 {
		dst = append(dst, '-')
	}
	return appendDigits(dst, digits, exponent)
}

// roundDigits leaves keep of the digits, which may be none or fewer. It has
// carried if a digit is there before the first.
func roundDigits(digits []byte, keep int) (_ []byte, carried bool) {
	if keep >= len(digits) {
		return digits, false
	}
	if keep < 0 {
		return nil, false
	}
	next, rest := digits[keep], digits[keep+1:]
	up := next > '5' || next == '5' && (len(rest) > 0 || keep > 0 && digits[keep-1]%2 == 1)
	digits = digits[:keep]
	if !up {
		return digits, false
	}
	for i := keep - 1; i >= 0; i-- {
		if digits[i] < '9' {
			digits[i]++
			return digits[:i+1], false
		}
	}
	return append(digits[:0], '1'), true
}

// appendDigits writes the number d.ddd × 10^exponent, in the way that is shorter.
func appendDigits(dst, digits []byte, exponent int) []byte {
	digits = bytes.TrimRight(digits, "0")
	n := len(digits)
	switch {
	case n == 0:
		return append(dst, '0')
	case exponent < -7 || exponent > 20:
		dst = append(dst, digits[0])
		if n > 1 {
			dst = append(append(dst, '.'), digits[1:]...)
		}
		return strconv.AppendInt(append(dst, 'e'), int64(exponent), 10)
	case exponent < 0:
		dst = append(dst, "0.0000000"[:1-exponent]...)
		return append(dst, digits...)
	}
	for i := range exponent + 1 {
		if i < n {
			dst = append(dst, digits[i])
		} else {
			dst = append(dst, '0')
		}
	}
	if n > exponent+1 {
		dst = append(append(dst, '.'), digits[exponent+1:]...)
	}
	return dst
}

// geoJSON is [appendGeoJSON], by functions of PostGIS in the schema of the type.
// ST_AsGeoJSON fails on what it has no form for, and the whole query with it.
func geoJSON(schema string) sqlFunc {
	return func(ref string) string {
		v := newName(ref)
		geometry := ref + "::" + schema + ".geometry"
		kind := schema + ".ST_GeometryType(" + geometry + ")"
		return "(SELECT CASE WHEN " + operate(v+".g", "!~*", "'inf|nan|[[,][[][]]|[[],|,,|,[]]'") + " THEN " + v + ".g::pg_catalog.json" +
			" ELSE pg_catalog.to_json(pg_catalog.format('%s', " + ref + ")) END" +
			" FROM (SELECT CASE WHEN " + kind + " OPERATOR(pg_catalog.=) ANY (" +
			literal("{ST_Point,ST_LineString,ST_Polygon,ST_MultiPoint,ST_MultiLineString,ST_MultiPolygon}", "text[]") + ")" +
			" OR " + operate(kind, "=", "'ST_GeometryCollection'") +
			" AND " + operate(schema+".ST_AsText("+geometry+")", "!~*", "'curve|circular|surface|tin|triangle|[(].*(empty|collection)'") +
			" THEN " + schema + ".ST_AsGeoJSON(" + geometry + ", 9, 0) END AS g OFFSET 0) " + v +
			" WHERE " + ref + " IS NOT NULL)"
	}
}

// geometryPoint is [appendEWKBPoint].
func geometryPoint(schema string) sqlFunc {
	return func(ref string) string {
		geometry := ref + "::" + schema + ".geometry"
		coordinate := func(function string) string {
			return schema + "." + function + "(" + geometry + ")"
		}
		return "CASE WHEN " + operate(coordinate("ST_GeometryType"), "=", "'ST_Point'") + " THEN " +
			geoPointJSON(coordinate("ST_X"), coordinate("ST_Y"), "1e15") + " END"
	}
}
