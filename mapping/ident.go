package mapping

import "strings"

// QuoteIdent quotes a name for SQL, whatever is in it.
func QuoteIdent(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// quoteIfNeeded quotes a name only where SQL would read it differently, for
// texts that people read. It does not know reserved words: SQL that is sent
// uses [QuoteIdent].
func quoteIfNeeded(s string) string {
	for i := 0; i < len(s); i++ {
		c := s[i]
		plain := c == '_' || 'a' <= c && c <= 'z' || i > 0 && '0' <= c && c <= '9'
		if !plain {
			return QuoteIdent(s)
		}
	}
	if s == "" {
		return QuoteIdent(s)
	}
	return s
}
