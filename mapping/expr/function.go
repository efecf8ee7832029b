package expr

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/builtin"

	"tidemark/mapping/value"
)

// What an expression calls depends on its arguments alone: two runs over the
// same row must give the same document, whatever the clock, the environment, the
// time zones of the machine or the order of Go's maps. The functions of
// expr-lang for which that is not so are left out, or replaced.

// noFunctions are left out.
var noFunctions = map[string]string{
	"now":      "a document must follow from its row alone, not from the time",
	"timezone": "a document must follow from its row alone, not from the zones that the machine knows",
}

// maxRepeat bounds what repeat makes, in bytes.
const maxRepeat = 1 << 20

// ownFunctions replace those of expr-lang that have the same name. See [ownName].
var ownFunctions = []*builtin.Function{
	{
		Name:  "date", // the zone is UTC, and not looked for
		Func:  func(args ...any) (any, error) { return parseDate(args) },
		Types: []reflect.Type{reflect.TypeFor[func(string) time.Time](), reflect.TypeFor[func(string, string) time.Time]()},
	}, {
		Name: "join", // nil is left out, as by array_to_string and concat_ws
		Func: func(args ...any) (any, error) { return joinTexts(args) },
		Types: []reflect.Type{
			reflect.TypeFor[func([]any) string](), reflect.TypeFor[func([]any, string) string](),
			reflect.TypeFor[func([]string) string](), reflect.TypeFor[func([]string, string) string](),
		},
	}, {
		Name: "repeat", // bounded
		Func: func(args ...any) (any, error) {
			s, n := args[0].(string), args[1].(int)
			if n < 0 || n > maxRepeat || len(s)*n > maxRepeat {
				return nil, fmt.Errorf("repeat makes at most %d bytes", maxRepeat)
			}
			return strings.Repeat(s, n), nil
		},
		Types: []reflect.Type{reflect.TypeFor[func(string, int) string]()},
	}, {
		Name: "keys", // sorted
		Func: func(args ...any) (any, error) {
			keys, _, err := sortedMembers(args[0])
			return keys, err
		},
		Types: []reflect.Type{reflect.TypeFor[func(any) []any]()},
	}, {
		Name: "values", // in the order of the keys
		Func: func(args ...any) (any, error) {
			_, values, err := sortedMembers(args[0])
			return values, err
		},
		Types: []reflect.Type{reflect.TypeFor[func(any) []any]()},
	}, {
		Name: "toPairs", // in the order of the keys
		Func: func(args ...any) (any, error) {
			keys, values, err := sortedMembers(args[0])
			if err != nil {
				return nil, err
			}
			pairs := make([]any, len(keys))
			for i := range keys {
				pairs[i] = []any{keys[i], values[i]}
			}
			return pairs, nil
		},
		Types: []reflect.Type{reflect.TypeFor[func(any) []any]()},
	},
}

// ownName is how compiled code calls an own function: no column can have this
// name, so that one named keys or date hides none.
func ownName(name string) string { return "\x00" + name }

// methods are what may be called on dates and durations. Others are not there
// because they know the zone of the machine, or give what JSON does not have.
var methods = []string{
	"Year", "Month", "Day", "Hour", "Minute", "Second", "Nanosecond", "YearDay", "Weekday",
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Format",
	"Add", "AddDate", "Sub", "Before", "After", "Equal", "Compare", "IsZero",
	"Hours", "Minutes", "Seconds", "Milliseconds", "Microseconds", "Nanoseconds", "Abs",
	"Truncate", "Round", "String",
}

// functionNames returns what may be called, for a hint.
func functionNames() []string {
	names := make([]string, 0, len(builtin.Names))
	for _, name := range builtin.Names {
		if noFunctions[name] == "" {
			names = append(names, name)
		}
	}
	return names
}

// dateLayouts are tried one after the other where none is given.
var dateLayouts = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02", time.RFC1123Z, time.RFC1123}

func parseDate(args []any) (any, error) {
	text := args[0].(string)
	layouts := dateLayouts
	if len(args) == 2 {
		layouts = []string{args[1].(string)}
	}
	for _, layout := range layouts {
		// In UTC, so that no abbreviation of a zone is looked up.
		if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil {
			return t.UTC(), nil
		}
	}
	return nil, fmt.Errorf("%.40q is no date of the layout %s", text, strings.Join(layouts, " or "))
}

func joinTexts(args []any) (any, error) {
	glue := ""
	if len(args) == 2 {
		glue = args[1].(string)
	}
	if parts, ok := args[0].([]string); ok {
		return strings.Join(parts, glue), nil
	}
	elements, ok := args[0].([]any)
	if !ok {
		return nil, fmt.Errorf("join takes an array, not %T", args[0])
	}
	parts := make([]string, 0, len(elements))
	for _, e := range elements {
		if e == nil {
			continue
		}
		part, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("join takes strings, not %T: make it one with string()", e)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, glue), nil
}

// sortedMembers returns the keys of a map and its values, both in the order of
// the texts of the keys.
func sortedMembers(object any) (keys, values []any, err error) {
	v := reflect.ValueOf(object)
	if v.Kind() != reflect.Map {
		return nil, nil, fmt.Errorf("%T is no object", object)
	}
	texts := make(map[any]string, v.Len())
	for _, key := range v.MapKeys() {
		text, err := value.KeyText(key.Interface())
		if err != nil {
			return nil, nil, err
		}
		texts[key.Interface()] = string(text)
		keys = append(keys, key.Interface())
	}
	slices.SortFunc(keys, func(a, b any) int {
		if texts[a] == texts[b] { // 1 and "1"
			return strings.Compare(fmt.Sprintf("%T", a), fmt.Sprintf("%T", b))
		}
		return strings.Compare(texts[a], texts[b])
	})
	for _, key := range keys {
		values = append(values, v.MapIndex(reflect.ValueOf(key)).Interface())
	}
	return keys, values, nil
}
