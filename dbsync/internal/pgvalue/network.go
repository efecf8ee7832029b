package pgvalue

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strconv"
)

func decodeInet(text []byte) (any, bool) {
	if bytes.IndexByte(text, '/') >= 0 {
		return decodeCIDR(text)
	}
	addr, err := netip.ParseAddr(string(text))
	return addr, err == nil && addr.Zone() == ""
}

func decodeCIDR(text []byte) (any, bool) {
	prefix, err := netip.ParsePrefix(string(text))
	return prefix, err == nil
}

func renderInet(dst, in []byte) ([]byte, bool) { return appendNetwork(dst, in, false) }
func renderCIDR(dst, in []byte) ([]byte, bool) { return appendNetwork(dst, in, true) }

func appendNetwork(dst, in []byte, isCIDR bool) ([]byte, bool) {
	w := wire{in: in}
	family, bits := w.uint8(), int(w.uint8())
	w.uint8() // whether it is a cidr: the column's type says so
	raw := w.next(int(w.uint8()))
	addr, ok := netip.AddrFromSlice(raw)
	if !ok || !w.done() || addr.Is4() != (family == 2) || bits > addr.BitLen() {
		return dst, false
	}
	dst = addr.AppendTo(dst)
	if isCIDR || bits < addr.BitLen() {
		dst = strconv.AppendInt(append(dst, '/'), int64(bits), 10)
	}
	return dst, true
}

func renderMACAddr(dst, in []byte) ([]byte, bool)  { return appendMAC(dst, in, 6) }
func renderMACAddr8(dst, in []byte) ([]byte, bool) { return appendMAC(dst, in, 8) }

func appendMAC(dst, in []byte, size int) ([]byte, bool) {
	if len(in) != size {
		return dst, false
	}
	for i := range in {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = hex.AppendEncode(dst, in[i:i+1])
	}
	return dst, true
}
