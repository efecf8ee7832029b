package value

import (
	"bytes"
	"strconv"

	"tidemark/mapping/jsontext"
)

// appendCIDR writes a network as the string that an ip_range takes. The search
// servers refuse a prefix length on an IPv4 address that is mapped into IPv6:
// ::ffff:10.1.2.0/120 becomes 10.1.2.0/24, the same addresses to them.
func appendCIDR(dst, text []byte) []byte {
	v4, mapped := bytes.CutPrefix(text, []byte("::ffff:"))
	if mapped {
		address, length, ok := bytes.Cut(v4, []byte{'/'})
		n, err := strconv.Atoi(string(length))
		if ok && err == nil && n >= 96 && n <= 128 && bytes.IndexByte(address, '.') > 0 {
			start := len(dst)
			dst = jsontext.Append(dst, address)
			dst = append(dst[:len(dst)-1], '/')
			dst = strconv.AppendInt(dst, int64(n-96), 10)
			return append(dst, dst[start])
		}
	}
	return jsontext.Append(dst, text)
}
