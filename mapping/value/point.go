package value

import (
	"bytes"

	"tidemark/mapping/jsontext"
)

// A point of Postgres lies on a plane. The fields for that, point and xy_point,
// are each known to one search server alone, so the default is an object of two
// numbers, which both of them take, too.
var pointField = map[string]any{"type": "object", "properties": map[string]any{
	"x": map[string]any{"type": "double"}, "y": map[string]any{"type": "double"},
}}

var geoPointField = map[string]any{"type": "geo_point", "ignore_malformed": true}

// appendPoint writes {"x":1,"y":2.5}.
func appendPoint(dst, text []byte) []byte {
	x, y, ok := cutPoint(text)
	if !ok {
		return jsontext.Append(dst, text)
	}
	dst = appendNumber(append(dst, `{"x":`...), x)
	dst = appendNumber(append(dst, `,"y":`...), y)
	return append(dst, '}')
}

// appendLonLat writes a point whose x is a longitude and whose y a latitude for
// a geo_point: {"lat":2.5,"lon":1}. It is null if one is not a number.
func appendLonLat(dst, text []byte) []byte {
	lon, lat, ok := cutPoint(text)
	if !ok || !isNumber(lon) || !isNumber(lat) {
		return append(dst, "null"...)
	}
	dst = append(append(dst, `{"lat":`...), lat...)
	dst = append(append(dst, `,"lon":`...), lon...)
	return append(dst, '}')
}

// cutPoint takes (1,2.5) apart.
func cutPoint(text []byte) (x, y []byte, ok bool) {
	n := len(text)
	if n < 2 || text[0] != '(' || text[n-1] != ')' {
		return nil, nil, false
	}
	return bytes.Cut(text[1:n-1], []byte{','})
}

// pointJSON is [appendPoint].
func pointJSON(ref string) string {
	number := finite("float8")
	return "CASE WHEN " + ref + " IS NOT NULL THEN pg_catalog.json_build_object('x', " + number("("+ref+")[0]") +
		", 'y', " + number("("+ref+")[1]") + ") END"
}

// lonLatJSON is [appendLonLat].
func lonLatJSON(ref string) string {
	return geoPointJSON("("+ref+")[0]", "("+ref+")[1]", "Infinity")
}

// geoPointJSON returns a geo_point of two float8, NULL unless both are within limit.
func geoPointJSON(lon, lat, limit string) string {
	within := func(v string) string {
		return operate(v, ">", literal("-"+limit, "float8")) + " AND " + operate(v, "<", literal(limit, "float8"))
	}
	return "CASE WHEN " + within(lon) + " AND " + within(lat) + " THEN pg_catalog.json_build_object('lat', " + lat + ", 'lon', " + lon + ") END"
}
