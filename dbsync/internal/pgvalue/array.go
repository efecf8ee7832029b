package pgvalue

import (
	"bytes"
	"strconv"
)

// vectorOf reads int2vector and oidvector: elements separated by spaces.
func vectorOf(decode func([]byte) (any, bool)) func([]byte) (any, bool) {
	return func(text []byte) (any, bool) {
		out := []any{}
		for field := range bytes.FieldsSeq(text) {
			v, ok := decode(field)
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	}
}

// maxDim is the greatest number of dimensions of an array in Postgres.
const maxDim = 6

// arrayOf returns the type of an array whose elements are of type elem.
func arrayOf(elem valueType, delim byte) valueType {
	array := valueType{
		decode: func(text []byte) (any, bool) { return decodeArray(text, delim, elem.decode) },
	}
	if elem.render != nil {
		array.render = func(dst, in []byte) ([]byte, bool) { return renderArray(dst, in, delim, elem.render) }
	}
	return array
}

// decodeArray reads the text form of an array: "{1,NULL,3}", "{{a,\"b c\"},{d,e}}",
// "[0:1]={1,2}" (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).
func decodeArray(text []byte, delim byte, decode func([]byte) (any, bool)) (any, bool) {
	if bytes.HasPrefix(text, []byte("[")) { // lower bounds
		bounds, rest, ok := bytes.Cut(text, []byte("="))
		if !ok || len(bytes.Trim(bounds, "[]:+-0123456789")) > 0 {
			return nil, false
		}
		text = rest
	}
	p := arrayText{rest: text, delim: delim, decode: decode}
	out, ok := p.array(1)
	return out, ok && len(p.rest) == 0
}

// An arrayText is what is left to read of an array.
type arrayText struct {
	rest   []byte
	delim  byte
	decode func([]byte) (any, bool) // nil: the element is its text
}

// skip takes b if it comes next.
func (p *arrayText) skip(b byte) bool {
	if len(p.rest) == 0 || p.rest[0] != b {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *arrayText) array(depth int) (any, bool) {
	if depth > maxDim || !p.skip('{') {
		return nil, false
	}
	out := []any{}
	if p.skip('}') {
		return out, true
	}
	for {
		var v any
		var ok bool
		if len(p.rest) > 0 && p.rest[0] == '{' {
			v, ok = p.array(depth + 1)
		} else {
			v, ok = p.element()
		}
		if !ok {
			return nil, false
		}
		out = append(out, v)
		if p.skip('}') {
			return out, true
		}
		if !p.skip(p.delim) {
			return nil, false
		}
	}
}

func (p *arrayText) element() (any, bool) {
	var text []byte
	if p.skip('"') {
		for !p.skip('"') {
			p.skip('\\')
			if len(p.rest) == 0 {
				return nil, false
			}
			text = append(text, p.rest[0])
			p.rest = p.rest[1:]
		}
	} else {
		end := 0
		for end < len(p.rest) && p.rest[end] != p.delim && p.rest[end] != '}' {
			end++
		}
		text, p.rest = p.rest[:end], p.rest[end:]
		if len(text) == 0 {
			return nil, false
		}
		if string(text) == "NULL" {
			return nil, true
		}
	}
	if p.decode == nil {
		return string(text), true
	}
	return p.decode(text)
}

// An arrayWire is the binary form of an array: dimensions, then the elements.
type arrayWire struct {
	wire
	dims, lower []int
}

// newArrayWire reads the dimensions. The number of elements is known to be no more than
// the bytes that are left can hold.
func newArrayWire(in []byte) (w arrayWire, ok bool) {
	w.in = in
	n := int(w.int32())
	w.uint32() // whether there are NULLs
	w.uint32() // OID of the element's type: the column's type says it
	if w.short || n < 0 || n > maxDim {
		return w, false
	}
	w.dims, w.lower = make([]int, n), make([]int, n)
	for i := range n {
		w.dims[i], w.lower[i] = int(w.int32()), int(w.int32())
	}
	count := 1
	for _, size := range w.dims {
		if size < 0 || size > len(w.in) {
			return w, false
		}
		if count *= size; count > len(w.in)/4 {
			return w, false
		}
	}
	return w, !w.short
}

func renderArray(dst, in []byte, delim byte, elem func(dst, in []byte) ([]byte, bool)) ([]byte, bool) {
	w, ok := newArrayWire(in)
	if !ok {
		return dst, false
	}
	if len(w.dims) == 0 {
		return append(dst, "{}"...), w.done()
	}
	for _, lower := range w.lower {
		if lower == 1 {
			continue
		}
		for i, size := range w.dims {
			dst = strconv.AppendInt(append(dst, '['), int64(w.lower[i]), 10)
			dst = strconv.AppendInt(append(dst, ':'), int64(w.lower[i]+size-1), 10)
			dst = append(dst, ']')
		}
		dst = append(dst, '=')
		break
	}
	special := `"\{}` + string(rune(delim))
	var level func(dim int) bool
	level = func(dim int) bool {
		dst = append(dst, '{')
		for i := range w.dims[dim] {
			if i > 0 {
				dst = append(dst, delim)
			}
			if dim+1 < len(w.dims) {
				if !level(dim + 1) {
					return false
				}
				continue
			}
			size := int(w.int32())
			if size == -1 {
				dst = append(dst, "NULL"...)
				continue
			}
			text, ok := elem(nil, w.next(size))
			if !ok || w.short || len(dst)+len(text) > maxText {
				return false
			}
			if bytes.EqualFold(text, []byte("NULL")) {
				dst = append(append(append(dst, '"'), text...), '"')
				continue
			}
			dst = appendQuoted(dst, text, special, '\\')
		}
		dst = append(dst, '}')
		return true
	}
	return dst, level(0) && w.done()
}

// renderVector writes int2vector and oidvector, whose binary form is that of an array:
// elements separated by spaces.
func renderVector(elem func(dst, in []byte) ([]byte, bool)) func(dst, in []byte) ([]byte, bool) {
	return func(dst, in []byte) ([]byte, bool) {
		w, ok := newArrayWire(in)
		if !ok || len(w.dims) > 1 {
			return dst, false
		}
		if len(w.dims) == 0 {
			return dst, w.done()
		}
		for i := range w.dims[0] {
			if i > 0 {
				dst = append(dst, ' ')
			}
			if dst, ok = elem(dst, w.next(int(w.int32()))); !ok {
				return dst, false
			}
		}
		return dst, w.done()
	}
}
