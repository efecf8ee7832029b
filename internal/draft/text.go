package draft

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

var (
	plainText = regexp.MustCompile(`^[\pL_][\pL\pN_.$-]*$`)
	plainURL  = regexp.MustCompile(`^https?://[A-Za-z0-9.:/_-]+[A-Za-z0-9/]$`)
	reserved  = regexp.MustCompile(`(?i)^(y|yes|n|no|on|off|true|false|null|nan|inf)$`) // in one version of YAML or another
)

// key writes a text as a key of YAML, in { } too.
func key(text string) string {
	switch {
	case plainText.MatchString(text) && !reserved.MatchString(text), plainURL.MatchString(text):
		return text
	case strings.Contains(text, `"`) && !strings.Contains(text, `'`) && strings.IndexFunc(text, func(r rune) bool { return !printable(r) }) < 0:
		return "'" + text + "'"
	}
	return strconv.Quote(text) // its escapes are those of YAML, too
}

// printable reports whether YAML takes the character as it is.
func printable(r rune) bool { return unicode.IsPrint(r) && r != '\ufeff' }

// scalar writes a text as a value: in those, ${…} is filled in.
func scalar(text string) string {
	if strings.Contains(text, "${") || strings.Contains(text, "$$") {
		text = strings.ReplaceAll(text, "$", "$$")
	}
	return key(text)
}

func scalars(texts []string) []string {
	written := make([]string, len(texts))
	for i, text := range texts {
		written[i] = scalar(text)
	}
	return written
}

// tableText writes the name of a table, with quotes of SQL only where the file needs them.
func tableText(name catalog.TableName) string {
	text := name.Schema + "." + name.Name
	if parsed, err := catalog.ParseTableName(text); err != nil || parsed != name {
		text = name.String()
	}
	return scalar(text)
}

// pairsText writes columns that have the same values.
func pairsText(pairs []mapping.Pair) string {
	var parts []string
	for _, p := range pairs {
		parts = append(parts, key(p.Near)+": "+scalar(p.Far))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// columnList writes columns for SQL.
func columnList(columns []string) string {
	var quoted []string
	for _, c := range columns {
		quoted = append(quoted, catalog.QuoteIdent(c))
	}
	return strings.Join(quoted, ", ")
}

// remark makes one line of a text, for a comment: YAML takes no control character there.
func remark(text string) string {
	text = strings.Map(func(r rune) rune {
		if !printable(r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// statement makes a remark of a piece of SQL, and says so where it is not the same then.
func statement(sql string) string {
	if strings.IndexFunc(sql, func(r rune) bool { return !printable(r) }) >= 0 {
		return remark(sql) + " (a name in it has characters that cannot be shown)"
	}
	return sql
}

// width is how long a line may become before what can be parted is.
const width = 118

// flow writes items between open and end, on further lines where one is too long.
func flow(first, next, open string, items []string, end string) string {
	var b strings.Builder
	b.WriteString(first + open)
	length := utf8.RuneCountInString(first + open)
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		} else {
			item += end
		}
		n := utf8.RuneCountInString(item)
		switch {
		case i == 0:
		case length+1+n > width:
			b.WriteString("\n" + next)
			length = utf8.RuneCountInString(next)
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(item)
		length += n
	}
	return b.String()
}
