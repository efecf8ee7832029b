package mapping

import "strings"

// places are the lines of a file, from 1, by the path of what stands there: of each key, and
// of each item of a list (indices.products.id[0]). They are all that is kept of the file;
// indices, sources, fields and includes have their paths.
type places map[string]int

// line returns the line of a path or, if the file does not have it, of the closest one around
// it; 0 if it has none of them.
func (p places) line(path string) int {
	for {
		if line, ok := p[path]; ok {
			return line
		}
		end := strings.LastIndexAny(path, ".[")
		if end < 0 {
			return 0
		}
		path = path[:end]
	}
}

// has reports whether the file has the path.
func (p places) has(path string) bool {
	_, ok := p[path]
	return ok
}

// join returns the path of a key below another one.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
