package pgvalue

import "strconv"

// appendLexeme writes a word of a tsvector or tsquery in quotes.
func appendLexeme(dst, word []byte) []byte {
	dst = append(dst, '\'')
	for _, b := range word {
		if b == '\'' || b == '\\' {
			dst = append(dst, b)
		}
		dst = append(dst, b)
	}
	return append(dst, '\'')
}

func renderTSVector(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	count := int(w.int32())
	for i := 0; i < count && !w.short; i++ {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendLexeme(dst, w.cstring())
		separator := byte(':')
		for range w.uint16() {
			position := w.uint16()
			dst = strconv.AppendUint(append(dst, separator), uint64(position&0x3fff), 10)
			if weight := position >> 14; weight > 0 {
				dst = append(dst, 'D'-byte(weight))
			}
			separator = ','
		}
	}
	return dst, w.done() && count >= 0
}

// The operators of a tsquery by number, and how strongly each binds.
const (
	tsNot    = 1
	tsAnd    = 2
	tsOr     = 3
	tsPhrase = 4
)

var tsPriority = [...]int{tsNot: 4, tsAnd: 2, tsOr: 1, tsPhrase: 3}

// maxTSQueryDepth bounds the recursion over a tsquery.
const maxTSQueryDepth = 1 << 14

func renderTSQuery(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	if w.uint32() == 0 { // number of items
		return dst, w.done()
	}
	text, ok := tsQueryItem(&w, 0, false, 0)
	return append(dst, text...), ok && w.done()
}

// tsQueryItem writes the item that comes next, with its operands, which follow it, the
// right one first. parent is the priority of the operator it belongs to.
func tsQueryItem(w *wire, parent int, isRightOfPhrase bool, depth int) ([]byte, bool) {
	if depth > maxTSQueryDepth {
		return nil, false
	}
	if kind := w.uint8(); kind == 1 { // a word
		weights, isPrefix := w.uint8(), w.uint8() != 0
		text := appendLexeme(nil, w.cstring())
		if isPrefix || weights != 0 {
			text = append(text, ':')
		}
		if isPrefix {
			text = append(text, '*')
		}
		for bit := 3; bit >= 0; bit-- {
			if weights>>bit&1 != 0 {
				text = append(text, 'D'-byte(bit))
			}
		}
		return text, !w.short
	} else if kind != 2 {
		return nil, false
	}
	operator := int(w.uint8())
	if operator < tsNot || operator > tsPhrase {
		return nil, false
	}
	priority := tsPriority[operator]
	var text []byte
	needsParens := priority < parent || operator == tsPhrase && isRightOfPhrase
	if needsParens {
		text = append(text, "( "...)
	}
	if operator == tsNot {
		operand, ok := tsQueryItem(w, priority, false, depth+1)
		if !ok {
			return nil, false
		}
		text = append(append(text, '!'), operand...)
	} else {
		symbol := " & "
		switch operator {
		case tsOr:
			symbol = " | "
		case tsPhrase:
			symbol = " <-> "
			if distance := w.uint16(); distance != 1 {
				symbol = " <" + strconv.Itoa(int(distance)) + "> "
			}
		}
		right, ok := tsQueryItem(w, priority, operator == tsPhrase, depth+1)
		if !ok {
			return nil, false
		}
		left, ok := tsQueryItem(w, priority, false, depth+1)
		if !ok {
			return nil, false
		}
		text = append(append(append(text, left...), symbol...), right...)
	}
	if needsParens {
		text = append(text, " )"...)
	}
	return text, true
}
