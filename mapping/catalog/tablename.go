package catalog

import (
	"fmt"
	"unicode"

	"tidemark/dbsync/pgname"
)

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
