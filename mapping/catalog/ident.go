package catalog

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync/pgname"
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

// ParseTableName reads table, schema.table, or either of them in double quotes
// ("" inside for "), which a name with a dot, a space or a hyphen needs. Without a
// schema it is public. Unlike in SQL, upper case counts without quotes, too:
// public.Album is public."Album".
func ParseTableName(text string) (TableName, error) {
	parts, err := pgname.Split(text)
	if err != nil {
		return TableName{}, err
	}
	for _, part := range parts {
		if !part.Quoted {
			if err := checkPlain(part.Name); err != nil {
				return TableName{}, err
			}
		}
		if err := CheckIdent(part.Name); err != nil {
			return TableName{}, err
		}
	}
	switch len(parts) {
	case 1:
		return TableName{"public", parts[0].Name}, nil
	case 2:
		return TableName{parts[0].Name, parts[1].Name}, nil
	}
	return TableName{}, fmt.Errorf("a table is named by schema and name, not by %d parts", len(parts))
}

// checkPlain holds a name against what may stand without quotes.
func checkPlain(name string) error {
	for i, c := range name {
		if !(c == '_' || unicode.IsLetter(c) || i > 0 && (c == '$' || unicode.IsDigit(c))) {
			return fmt.Errorf("a name with %q must be in double quotes", c)
		}
	}
	return nil
}
