package catalog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// QuoteIdent quotes a name for SQL, whatever is in it. A NUL, which no name in Postgres has and
// [CheckIdent] refuses, is left out.
func QuoteIdent(s string) string { return pgx.Identifier{s}.Sanitize() }

// QuoteIfNeeded quotes a name only where SQL would read it differently, for
// texts that people read. It does not know reserved words: SQL that is sent
// uses [QuoteIdent].
func QuoteIfNeeded(s string) string {
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

// MaxIdent is NAMEDATALEN-1: Postgres cuts longer names off without an error.
const MaxIdent = 63

// CheckIdent holds the name of anything in Postgres against its length.
func CheckIdent(name string) error {
	switch {
	case name == "":
		return errors.New("a name is missing")
	case len(name) > MaxIdent:
		return fmt.Errorf("a name in Postgres has at most %d bytes, this one has %d", MaxIdent, len(name))
	case strings.ContainsRune(name, 0):
		return errors.New("a name in Postgres holds no NUL")
	}
	return nil
}
