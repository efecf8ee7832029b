package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// maxIndexName leaves room for the timestamp of the physical index: the servers
// take 255 bytes.
const maxIndexName = 200

// maxIdent is NAMEDATALEN-1: Postgres cuts longer names off without an error.
const maxIdent = 63

var physicalName = regexp.MustCompile(`-\d{8}t\d{6}z$`)

// checkIndexName holds name against the rules that Elasticsearch and OpenSearch
// have for indices, and against ours.
func checkIndexName(name string) error {
	switch {
	case name == "":
		return errors.New("an index needs a name")
	case len(name) > maxIndexName:
		return fmt.Errorf("an index name has at most %d bytes, this one has %d", maxIndexName, len(name))
	case strings.ToLower(name) != name:
		return errors.New("an index name is written in lower case")
	case strings.ContainsAny(name[:1], "-_+."):
		return errors.New("an index name does not begin with - _ + or a dot")
	case physicalName.MatchString(name):
		return errors.New("names that end in a time are those of physical indices, which Tidemark makes itself")
	}
	for _, c := range name {
		if strings.ContainsRune(`\/*?"<>|,#:`, c) || unicode.IsSpace(c) || unicode.IsControl(c) || c == unicode.ReplacementChar {
			return fmt.Errorf("an index name holds no %q", c)
		}
	}
	return nil
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// checkSlotName holds name against the rules of Postgres for replication slots.
func checkSlotName(name string) error {
	if !slotName.MatchString(name) {
		return fmt.Errorf("a slot name has 1 to %d lower-case letters, digits and underscores", maxIdent)
	}
	return nil
}

// checkIdent holds the name of anything in Postgres against its length.
func checkIdent(name string) error {
	switch {
	case name == "":
		return errors.New("a name is missing")
	case len(name) > maxIdent:
		return fmt.Errorf("a name in Postgres has at most %d bytes, this one has %d", maxIdent, len(name))
	case strings.ContainsRune(name, 0):
		return errors.New("a name in Postgres holds no NUL")
	}
	return nil
}

// checkSchema is checkIdent for a schema that Tidemark creates.
func checkSchema(name string) error {
	if strings.HasPrefix(name, "pg_") || name == "information_schema" {
		return errors.New("this schema belongs to Postgres")
	}
	return checkIdent(name)
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
		if err := checkIdent(part); err != nil {
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
