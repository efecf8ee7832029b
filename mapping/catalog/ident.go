package catalog

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// QuoteIdent quotes a name for SQL, whatever is in it.
func QuoteIdent(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

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
	var parts []string
	for rest := text; ; {
		part, after, err := cutIdent(rest)
		if err != nil {
			return TableName{}, err
		}
		if err := CheckIdent(part); err != nil {
			return TableName{}, err
		}
		parts = append(parts, part)
		if after == "" {
			break
		}
		if after[0] != '.' {
			return TableName{}, errors.New(`after a name in quotes comes a dot or the end`)
		}
		rest = after[1:]
	}
	switch len(parts) {
	case 1:
		return TableName{"public", parts[0]}, nil
	case 2:
		return TableName{parts[0], parts[1]}, nil
	}
	return TableName{}, fmt.Errorf("a table is named by schema and name, not by %d parts", len(parts))
}

// cutIdent cuts the first name off text.
func cutIdent(text string) (name, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := len(text)
		for i, c := range text {
			if c == '.' {
				end = i
				break
			}
			if !(c == '_' || unicode.IsLetter(c) || i > 0 && (c == '$' || unicode.IsDigit(c))) {
				return "", "", fmt.Errorf("a name with %q must be in double quotes", c)
			}
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for rest = text[1:]; ; {
		before, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return "", "", errors.New(`a " without its end`)
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, nil
		}
		b.WriteByte('"')
		rest = after[1:]
	}
}
