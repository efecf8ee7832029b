package search

import (
	"strings"
	"time"
)

const physicalLayout = "20060102T150405Z"

// PhysicalName names the physical index that is built for alias at a time, to the
// second, and the alias that all writes to it go through:
//
//	products-20260131t120000z    the index
//	products-20260131T120000Z    its write alias
//
// An index name must be lower case and an alias name need not be. So when index and
// alias are gone, a late write cannot make the server create an index of that name with
// guessed mappings, not even a delete with an external version, which would
// otherwise: the server refuses the name.
func PhysicalName(alias string, at time.Time) (physical, writeAlias string) {
	writeAlias = alias + "-" + at.UTC().Format(physicalLayout)
	return alias + "-" + strings.ToLower(at.UTC().Format(physicalLayout)), writeAlias
}

// WriteAlias returns the write alias of a physical index that PhysicalName named.
func WriteAlias(alias, physical string) string {
	return alias + strings.ToUpper(strings.TrimPrefix(physical, alias))
}

// PhysicalOf returns the physical index that a write alias stands for; ok is false where it
// is none of an index of the name alias.
func PhysicalOf(alias, writeAlias string) (physical string, ok bool) {
	stamp, ok := strings.CutPrefix(writeAlias, alias)
	physical = alias + strings.ToLower(stamp)
	return physical, ok && isPhysical(alias, physical) && WriteAlias(alias, physical) == writeAlias
}

// PhysicalTime returns the time in the name of a physical index; ok is false for a name
// that PhysicalName does not give for alias.
func PhysicalTime(alias, name string) (at time.Time, ok bool) {
	stamp, ok := strings.CutPrefix(name, alias+"-")
	if !ok || stamp != strings.ToLower(stamp) {
		return time.Time{}, false
	}
	at, err := time.Parse(physicalLayout, strings.ToUpper(stamp))
	return at, err == nil
}

func isPhysical(alias, name string) bool {
	_, ok := PhysicalTime(alias, name)
	return ok
}
