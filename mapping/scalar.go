package mapping

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/near"
)

// scalar returns the text of a value that is one, whatever its type.
func (r *reader) scalar(n *yaml.Node, path, want string) (string, bool) {
	switch {
	case r.broken[n]:
		return "", false
	case n.Kind != yaml.ScalarNode:
		r.problem(n, "", "%s: want %s, found %s", path, want, kindOf(n))
		return "", false
	case n.Value == "" || isNull(n):
		hint := "write a value, or leave the key out"
		if raw := r.expanded[n]; raw != "" {
			hint = "give " + raw + " a value, or leave the key out"
		}
		r.problem(n, hint, "%s is empty", path)
		return "", false
	}
	return n.Value, true
}

// text reads a text. Numbers and booleans are refused, not guessed at.
func (r *reader) text(into *string) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.text(*into)
			return
		}
		value, ok := r.scalar(n, path, "text")
		if ok && n.Tag != "!!str" {
			r.problem(n, fmt.Sprintf("put it in quotes: %q", n.Value), "%s: want text, found %s", path, kindOf(n))
			return
		}
		if ok {
			*into = value
		}
	}
}

// checked reads a text that check accepts. hint gives an example of one.
func (r *reader) checked(into *string, check func(string) error, hint string) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.text(*into)
			return
		}
		var value string
		if r.text(&value)(n, path); value == "" {
			return
		}
		if err := check(value); err != nil {
			r.problem(n, hint, "%s: %s: %v", path, r.show(n), err)
			return
		}
		*into = value
	}
}

// secret reads a text that is never shown, also one made of digits.
func (r *reader) secret(into *Secret) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.Type, s.MinLength = []string{"string", "number", "boolean"}, 1
			return
		}
		if value, ok := r.scalar(n, path, "text"); ok {
			r.secrets[n] = true
			*into = NewSecret(value)
		}
	}
}

// choice reads one of a few words.
func choice[T ~string](r *reader, into *T, words ...T) keyReader {
	return func(n *yaml.Node, path string) {
		list := make([]string, len(words))
		for i, w := range words {
			list[i] = string(w)
		}
		if s := r.schema; s != nil {
			s.words(list)
			s.Default = notZero(string(*into))
			return
		}
		value, ok := r.scalar(n, path, strings.Join(list, " or "))
		if !ok {
			return
		}
		if !slices.Contains(list, value) {
			r.problem(n, near.DidYouMean(value, list), "%s: want %s, found %s", path, strings.Join(list, " or "), r.show(n))
			return
		}
		*into = T(value)
	}
}

// integer reads a whole number within bounds.
func (r *reader) integer(into *int, least, most int) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.anyOf(&schema{Type: "integer", Minimum: &least, Maximum: &most})
			s.Default = notZero(*into)
			return
		}
		want := fmt.Sprintf("a whole number from %d to %d", least, most)
		text, ok := r.scalar(n, path, want)
		if !ok {
			return
		}
		value, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
		if err != nil || value < least || value > most || n.Tag == "!!str" && r.expanded[n] == "" {
			r.problem(n, "", "%s: want %s, found %s", path, want, r.show(n))
			return
		}
		r.literals[n] = true
		*into = value
	}
}

// boolean reads true or false.
func (r *reader) boolean(into *bool) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.anyOf(&schema{Type: "boolean"})
			s.Default = *into
			return
		}
		text, ok := r.scalar(n, path, "true or false")
		if !ok {
			return
		}
		value, err := strconv.ParseBool(text)
		if err != nil || len(text) < len("true") || n.Tag == "!!str" && r.expanded[n] == "" {
			r.problem(n, "", "%s: want true or false, found %s", path, r.show(n))
			return
		}
		r.literals[n] = true
		*into = value
	}
}

var sizeText = regexp.MustCompile(`^([0-9]{1,12}) ?([A-Za-z]*)$`)

var sizeUnits = map[string]int{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// size reads a number of bytes within bounds, bare or with a unit: 8MiB. why is the hint for
// one above the bounds.
func (r *reader) size(into *int, least, most int, why string) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.anyOf(&schema{Type: "integer", Minimum: &least, Maximum: &most}, &schema{Type: "string", Pattern: sizePattern})
			s.Default = sizeString(*into)
			return
		}
		want := fmt.Sprintf("a size from %s to %s", sizeString(least), sizeString(most))
		text, ok := r.scalar(n, path, want)
		if !ok {
			return
		}
		m := sizeText.FindStringSubmatch(text)
		if m == nil {
			r.problem(n, "write it as 8MiB", "%s: want %s, found %s", path, want, r.show(n))
			return
		}
		unit, known := sizeUnits[m[2]]
		if !known {
			r.problem(n, "the units are B, KiB, MiB and GiB", "%s: unknown unit in %s", path, r.show(n))
			return
		}
		number, _ := strconv.Atoi(m[1]) // twelve digits fit
		switch {
		case number > most/unit:
			r.problem(n, why, "%s: want %s, found %s", path, want, r.show(n))
			return
		case number*unit < least:
			r.problem(n, "", "%s: want %s, found %s", path, want, r.show(n))
			return
		}
		*into = number * unit
	}
}

func sizeString(n int) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if size := sizeUnits[unit]; n >= size && n%size == 0 {
			return strconv.Itoa(n/size) + unit
		}
	}
	return strconv.Itoa(n) + "B"
}

// interval reads a time within bounds, such as 24h or 1h30m; 0 and off are none.
func (r *reader) interval(into *time.Duration, least, most time.Duration) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.anyOf(&schema{Const: 0}, &schema{Type: "string", Pattern: intervalPattern})
			s.Default = intervalString(*into)
			return
		}
		want := fmt.Sprintf("a time from %s to %s, or off", intervalString(least), intervalString(most))
		text, ok := r.scalar(n, path, want)
		if !ok {
			return
		}
		value, err := time.ParseDuration(text)
		switch {
		case text == "off" || err == nil && value == 0:
			*into = 0
		case err != nil:
			r.problem(n, "write it as 24h; the units are h, m and s", "%s: want %s, found %s", path, want, r.show(n))
		case value < least || value > most:
			r.problem(n, "", "%s: want %s, found %s", path, want, r.show(n))
		default:
			*into = value
		}
	}
}

// duration reads a time within bounds, such as 24h or 1h30m.
func (r *reader) duration(into *time.Duration, least, most time.Duration) keyReader {
	return func(n *yaml.Node, path string) {
		if s := r.schema; s != nil {
			s.anyOf(&schema{Type: "string", Pattern: durationPattern})
			s.Default = intervalString(*into)
			return
		}
		want := fmt.Sprintf("a time from %s to %s", intervalString(least), intervalString(most))
		text, ok := r.scalar(n, path, want)
		if !ok {
			return
		}
		value, err := time.ParseDuration(text)
		switch {
		case err != nil:
			r.problem(n, "write it as 24h; the units are h, m and s", "%s: want %s, found %s", path, want, r.show(n))
		case value < least || value > most:
			r.problem(n, "", "%s: want %s, found %s", path, want, r.show(n))
		default:
			*into = value
		}
	}
}

// intervalString returns a time without the units that are zero: 24h.
func intervalString(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// show returns a value for a problem: as the file has it, with its ${…}, and short.
func (r *reader) show(n *yaml.Node) string {
	text, ok := r.expanded[n]
	if !ok {
		text = n.Value
	}
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:57], "") + "…"
	}
	return strconv.Quote(text)
}
