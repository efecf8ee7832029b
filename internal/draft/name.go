package draft

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// maxName bounds a made name in bytes: an index name has room for more.
const maxName = 120

// inTime is how a physical index ends; an index cannot.
var inTime = regexp.MustCompile(`-\d{8}t\d{6}z$`)

// indexName returns the name of a table's index, which differs from those that are taken.
func indexName(name catalog.TableName, taken map[string]bool) string {
	candidates := []string{simple(name.Name, "table")}
	if name.Schema != "public" {
		candidates = append(candidates, simple(name.Schema+"_"+name.Name, "table"))
	}
	return firstFree(candidates, func(s string) bool { return taken[s] || inTime.MatchString(s) })
}

// slotName returns a slot that no other database of the server has, empty if that is the
// default.
func (c *survey) slotName() string {
	if !c.slots[mapping.DefaultSlot] {
		return ""
	}
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(c.database))
	if len(name) > 40 { // of the 63 bytes that Postgres takes
		name = name[:40]
	}
	return firstFree([]string{mapping.DefaultSlot + "_" + name}, func(s string) bool { return c.slots[s] })
}

// simple makes a text a name in lower case, of letters, digits, _ and -.
func simple(text, otherwise string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(text))
	for strings.Contains(text, "__") {
		text = strings.ReplaceAll(text, "__", "_")
	}
	text = strings.Trim(text, "_-")
	for len(text) > maxName {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	if text == "" {
		return otherwise
	}
	return text
}

// firstFree returns the first of the names that is not taken, or the last one with a number.
func firstFree(names []string, taken func(string) bool) string {
	for _, name := range names {
		if name != "" && !taken(name) {
			return name
		}
	}
	for i := 2; ; i++ {
		if name := fmt.Sprintf("%s_%d", names[len(names)-1], i); !taken(name) {
			return name
		}
	}
}

// reservedFields are refused in documents by one of the search servers.
var reservedFields = []string{"_id", "_index", "_type", "_source", "_routing", "_field_names", "_ignored", "_ignored_source", "_nested_path", "_seq_no",
	"_primary_term", "_version", "_doc_count", "_tier", "_feature", "_size", "_timestamp", "_ttl", "_tsid", "_data_stream_timestamp", "_parent", "_all", "_uid"}

// fitsField reports whether a column can be a field of its own name. One with a dot would
// be an object, inside of which another column may already lie; * stands for all columns.
func fitsField(column string) bool {
	return !strings.Contains(column, ".") && strings.TrimSpace(column) == column && column != "*" && !slices.Contains(reservedFields, column)
}

// fieldName returns a column's field a name that can be.
func fieldName(column string, taken func(string) bool) string {
	name := strings.Trim(strings.ReplaceAll(column, ".", "_"), "_* \t\n\v\f\r\u00a0\u0085")
	if !fitsField(name) || name == "" {
		name = "column"
	}
	return firstFree([]string{name}, taken)
}

var (
	// orders are names of columns that order the rows of a link table.
	orders = regexp.MustCompile(`(?i)^(pos|position|ord|order|ordinal|sort|sort_?order|rank|seq|sequence|priority|list_?order|display_?order)$`)
	// describes are names of columns that tell a person which row this is.
	describes = regexp.MustCompile(`(?i:^(name|title|label|slug|code|sku|symbol|subject|caption|e_?mail|user_?name|surname|login|headline)$|.(_name|_title|_label)$)|[a-z](Name|Title)$`)
	// secrets are names of columns that nobody wants to be searched.
	secrets = regexp.MustCompile(`(?i)passw|(^|_)(pwd|secret|salt|otp|cvv|cvc|ssn)(_|$)|(api|private|secret)_?key|(^|_)token(_hash|_digest)?$`)
	// refers is how the name of a column ends that refers to another table.
	refers = regexp.MustCompile(`(?i:^(.+?)(_id|_fk|_key|_no|_nr|_code|_uuid|_ref)$)|^(.*[a-z0-9])(Id|ID|Fk|FK|Uuid|UUID)$`)
)

// referred returns the name of what a column refers to: artist_id refers to an artist. It is
// empty where the column is called like that itself.
func referred(column string) string {
	m := refers.FindStringSubmatch(column)
	if m == nil {
		return ""
	}
	return m[1] + m[3]
}
