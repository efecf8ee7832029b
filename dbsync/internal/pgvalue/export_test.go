package pgvalue

// Sample is what the tests on a server need of a sample.
type Sample struct {
	Format, Name, Text string
	Want               any
}

// Samples returns all samples.
func Samples() (all []Sample) {
	for _, s := range samples() {
		all = append(all, Sample{s.format, s.name, s.text, s.want})
	}
	return all
}

// Equal tells -0 from 0.
var Equal = equal

// IsSameType reports whether both names are known, of one type.
func IsSameType(a, b string) bool {
	t, ok := valueTypes[a]
	return ok && t == valueTypes[b]
}

// HasBinary reports whether the binary form of a built-in type is known.
func HasBinary(name string) bool { return valueTypes[name].render != nil }
