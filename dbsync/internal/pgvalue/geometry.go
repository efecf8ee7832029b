package pgvalue

// appendPoints writes n points, "(x,y),(x,y)".
func appendPoints(dst []byte, w *wire, n int) []byte {
	if n < 0 {
		w.short = true
	}
	for i := 0; i < n && !w.short; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendFloat(append(dst, '('), w.float64(), 64), ',')
		dst = append(appendFloat(dst, w.float64(), 64), ')')
	}
	return dst
}

func renderPoint(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendPoints(dst, &w, 1), w.done()
}

func renderLseg(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return append(appendPoints(append(dst, '['), &w, 2), ']'), w.done()
}

func renderBox(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendPoints(dst, &w, 2), w.done()
}

func renderPath(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	left, right := byte('['), byte(']')
	if isClosed := w.uint8() != 0; isClosed {
		left, right = '(', ')'
	}
	n := int(w.int32())
	return append(appendPoints(append(dst, left), &w, n), right), w.done()
}

func renderPolygon(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	n := int(w.int32())
	return append(appendPoints(append(dst, '('), &w, n), ')'), w.done()
}

func renderCircle(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	dst = append(appendPoints(append(dst, '<'), &w, 1), ',')
	return append(appendFloat(dst, w.float64(), 64), '>'), w.done()
}

func renderLine(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	dst = append(appendFloat(append(dst, '{'), w.float64(), 64), ',')
	dst = append(appendFloat(dst, w.float64(), 64), ',')
	return append(appendFloat(dst, w.float64(), 64), '}'), w.done()
}
