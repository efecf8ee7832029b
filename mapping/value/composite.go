package value

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
)

// maxFields bounds the fields that one column brings to an index, which by
// default may have a thousand in all.
const maxFields = 500

// compositeForm writes a composite as an object of its attributes, each in the
// default form of its type.
func compositeForm(t *catalog.Type, depth int) *Form {
	f := &Form{}
	properties := make(map[string]any, len(t.Attributes))
	parts := make([]compositePart, 0, len(t.Attributes))
	forms := make([]*Form, 0, len(t.Attributes))
	plain := true
	var name strings.Builder
	name.WriteString("composite 1 {")
	for i, a := range t.Attributes {
		below := newForm(a.Type, "", depth+1)
		lead := []byte{','}
		if i == 0 {
			lead[0] = '{'
		}
		parts = append(parts, compositePart{append(jsontext.Append(lead, []byte(a.Name)), ':'), below.Encode})
		forms = append(forms, below)
		properties[a.Name] = below.Field
		plain = plain && below.isPlain()
		f.loose = f.loose || below.loose
		fmt.Fprintf(&name, "%q: %s, ", a.Name, below.Name)
	}
	name.WriteByte('}')
	f.Name = name.String()
	f.Encode = compositeEncoder(parts)
	f.Field = map[string]any{"type": "object", "properties": properties}
	if countFields(properties) > maxFields || slices.ContainsFunc(t.Attributes, func(a catalog.Attribute) bool { return !isFieldName(a.Name) }) {
		f.Field = DisabledField
	}
	if !plain {
		f.sql = func(ref string) string {
			v := newName(ref)
			list := make([]string, len(forms))
			for i, a := range t.Attributes {
				quoted := catalog.QuoteIdent(a.Name)
				list[i] = forms[i].SQL("("+ref+")."+quoted, a.Type) + " AS " + quoted
			}
			return "CASE WHEN " + ref + " IS DISTINCT FROM NULL THEN (SELECT pg_catalog.row_to_json(" + v + ") FROM (SELECT " +
				strings.Join(list, ", ") + ") " + v + ") END"
		}
	}
	return f
}

// isFieldName reports whether an index may have a field of this name. With a
// point in it, it would be a path.
func isFieldName(name string) bool {
	return !strings.Contains(name, ".") && strings.TrimSpace(name) != ""
}

// countFields counts the fields of an object, with those below it.
func countFields(properties map[string]any) int {
	n := len(properties)
	for _, field := range properties {
		if below, ok := field.(map[string]any)["properties"].(map[string]any); ok {
			n += countFields(below)
		}
	}
	return n
}

// A compositePart writes one attribute.
type compositePart struct {
	lead   []byte // from the end of the attribute before: `,"name":`
	encode Encoder
}

// compositeEncoder reads what record_out wrote, where nothing is NULL:
//
//	(1,"x ""y"" \\ z",,"")
//
// A text with more or fewer attributes, as it may be where the type was altered
// and the change is not yet known, becomes a string.
func compositeEncoder(parts []compositePart) Encoder {
	return func(dst, text []byte) []byte {
		start := len(dst)
		dst, ok := appendComposite(dst, text, parts)
		if !ok {
			return jsontext.Append(dst[:start], text)
		}
		return dst
	}
}

func appendComposite(dst, text []byte, parts []compositePart) (_ []byte, ok bool) {
	n := len(text)
	if n < 2 || text[0] != '(' {
		return dst, false
	}
	if len(parts) == 0 {
		return append(dst, "{}"...), n == 2 && text[1] == ')'
	}
	i := 1
	for k := range parts {
		end, quoted := boundEnd(text, i)
		switch {
		case end == n, k == len(parts)-1 && (text[end] != ')' || end != n-1), k < len(parts)-1 && text[end] != ',':
			return dst, false
		}
		dst = append(dst, parts[k].lead...)
		switch {
		case end == i:
			dst = append(dst, "null"...)
		case quoted:
			start := len(dst)
			dst = appendBare(dst, text[i:end])
			bare := len(dst)
			dst = parts[k].encode(dst, dst[start:bare])
			dst = dst[:start+copy(dst[start:], dst[bare:])]
		default:
			dst = parts[k].encode(dst, text[i:end])
		}
		i = end + 1
	}
	return append(dst, '}'), true
}

// boundEnd returns the place of the comma, parenthesis or bracket that ends the
// attribute or the bound of a range that begins at i, len(text) if there is
// none, and whether it must be laid bare by [appendBare].
func boundEnd(text []byte, i int) (end int, quoted bool) {
	within := false
	for ; i < len(text); i++ {
		switch text[i] {
		case '"':
			within = !within // a doubled quote opens again at once
			quoted = true
		case '\\':
			i++
			quoted = true
		case ',', ')', ']':
			if !within {
				return i, quoted
			}
		}
	}
	return len(text), quoted
}

// appendBare takes the quotes away, and one of two quotes and backslashes.
func appendBare(dst, text []byte) []byte {
	within := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			dst = append(dst, text[i])
		case c == '"' && within && i+1 < len(text) && text[i+1] == '"':
			i++
			dst = append(dst, '"')
		case c == '"':
			within = !within
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
