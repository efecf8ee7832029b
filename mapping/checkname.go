package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"tidemark/mapping/catalog"
)

// maxIndexName leaves room for the timestamp of the physical index: the servers
// take 255 bytes.
const maxIndexName = 200

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
		return fmt.Errorf("a slot name has 1 to %d lower-case letters, digits and underscores", catalog.MaxIdent)
	}
	return nil
}

// checkSchema is checkIdent for a schema that Tidemark creates.
func checkSchema(name string) error {
	if strings.HasPrefix(name, "pg_") || name == "information_schema" {
		return errors.New("this schema belongs to Postgres")
	}
	return catalog.CheckIdent(name)
}
