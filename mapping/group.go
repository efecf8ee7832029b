package mapping

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// A KafkaGroup is a further cluster that has the documents of the file. It has a topic, workers, aliases, rebuilds and
// dead letters of its own, and so is held up by no other cluster. See docs/kafka.md.
type KafkaGroup struct {
	Name   string // as [CheckGroup] takes it
	Search Search // MaxDocumentBytes is that of [Config]
}

// maxGroupName leaves room in the names of a schema and a topic.
const maxGroupName = 30

var groupName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// CheckGroup returns an error that says what is wrong with the name of a group.
func CheckGroup(name string) error {
	switch {
	case !groupName.MatchString(name):
		return errors.New("want a lower-case letter, and then lower-case letters, digits, _ and - only")
	case len(name) > maxGroupName:
		return errors.New("want 30 characters at the most")
	case "."+name == ReportsSuffix:
		return errors.New("its topic would be that of reports")
	}
	return nil
}

// of returns what is for a group: its topic and its consumer group are those of the file with its name behind.
func (k *Kafka) of(group string) *Kafka {
	of := *k
	of.Topic, of.Group, of.Groups = k.Topic+"."+group, k.Group+"."+group, nil
	return &of
}

// GroupNames returns the names of the groups in the order of the file; none: nil.
func (c *Config) GroupNames() (names []string) {
	if c.Kafka == nil {
		return nil
	}
	for _, g := range c.Kafka.Groups {
		names = append(names, g.Name)
	}
	return names
}

// OfGroup returns what of the configuration is for a group, and reports whether there is this group: Search and Group
// are the group's, and in Kafka are its topic and its consumer group, and no Groups. Problems that name search name the
// key of the group. Indices are shared with c. The group "" is c itself.
func (c *Config) OfGroup(name string) (*Config, bool) {
	if name == "" || name == c.Group {
		return c, true
	}
	i := slices.Index(c.GroupNames(), name)
	if i < 0 {
		return nil, false
	}
	of := *c
	of.whole, of.Group, of.Kafka, of.Search, of.searchKey = c, name, c.Kafka.of(name), c.Kafka.Groups[i].Search, "kafka.groups."+name+".search"
	if c.written != nil {
		of.written, _ = c.written.OfGroup(name) // of the same file, so it has the group
	}
	return &of, true
}

// StateSchema returns the schema that has the state of indices: the control schema, of a group with its name behind.
// What belongs to the slot (its place, its watermarks) is in the control schema in any case.
func (c *Config) StateSchema() string { return c.stateSchema(c.Group) }

func (c *Config) stateSchema(group string) string {
	if group == "" {
		return c.Postgres.ControlSchema
	}
	return c.Postgres.ControlSchema + "_" + group
}

// keepsState reports whether a schema has state of Tidemark in it, of any group.
func (c *Config) keepsState(schema string) bool {
	if c.whole != nil {
		return c.whole.keepsState(schema)
	}
	return schema == c.StateSchema() || slices.ContainsFunc(c.GroupNames(), func(group string) bool { return schema == c.stateSchema(group) })
}

// keyOf returns under which key the file has what is asked for by one of the file as a whole.
func (c *Config) keyOf(key string) string {
	below, ok := strings.CutPrefix(key, "search")
	if !ok || c.searchKey == "" || below != "" && below[0] != '.' && below[0] != '[' || below == ".max_document_bytes" {
		return key
	}
	return c.searchKey + below
}
