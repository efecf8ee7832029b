package mapping

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
)

// kafkaGroup reads one of kafka.groups.
func (r *reader) kafkaGroup(key, n *yaml.Node, path string) KafkaGroup {
	if r.schema == nil {
		if err := CheckGroup(key.Value); err != nil {
			r.problem(key, "groups: {eu: {search: {urls: [https://eu.example.com:9200]}}}", "kafka.groups: %s: %v", r.show(key), err)
		}
	}
	g := KafkaGroup{Name: key.Value, Search: defaults().Search}
	given := r.object(n, path, map[string]keyReader{
		"search": func(n *yaml.Node, path string) { r.groupSearch(n, path, &g.Search) },
	})
	r.require("search")
	if given["search"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(key, "search: {urls: [https://eu.example.com:9200]}", "%s.search is missing: the cluster to write to", path)
	}
	return g
}

// groupSearch reads the cluster of a group.
func (r *reader) groupSearch(n *yaml.Node, path string, s *Search) {
	var elsewhere keyReader // in the schema there is no such key
	if r.schema == nil {
		elsewhere = func(n *yaml.Node, path string) {
			r.problem(n, "leave it out, and give it under search", "%s: it is search.max_document_bytes for all clusters", path)
		}
	}
	r.cluster(n, path, s, elsewhere)
}

// groups checks what groups have to do with the rest of the file, and with each other.
func (r *reader) groups(c *Config) {
	if c.Kafka == nil {
		return
	}
	for i := range c.Kafka.Groups {
		g := &c.Kafka.Groups[i]
		g.Search.MaxDocumentBytes = c.Search.MaxDocumentBytes
		path := "kafka.groups." + g.Name
		if CheckGroup(g.Name) != nil {
			continue // reported as such
		}
		r.checkNames(path, c.Kafka.of(g.Name))
		if schema := c.stateSchema(g.Name); len(schema) > catalog.MaxIdent {
			r.problemAt(path, "a shorter name, or a shorter postgres.control_schema", "%s: its state would be in schema %s, and the name of a schema has %d bytes at the most", path, schema, catalog.MaxIdent)
		}
		r.sameCluster(path, &g.Search, "search", &c.Search)
		for _, before := range c.Kafka.Groups[:i] {
			r.sameCluster(path, &g.Search, "kafka.groups."+before.Name+".search", &before.Search)
		}
	}
}

// checkNames reports topics and consumer groups of a group whose names are too long.
func (r *reader) checkNames(path string, of *Kafka) {
	if err := checkTopic(of.Topic); err != nil {
		r.problemAt(path, "a shorter name, or a shorter kafka.topic", "%s: its topic would be %s: %v", path, of.Topic, err)
	}
	if err := checkConsumerGroup(of.Group); err != nil {
		r.problemAt(path, "a shorter name, or a shorter kafka.group", "%s: its consumer group would be %s: %v", path, of.Group, err)
	}
}

// sameCluster reports a group that would write to the indices of another one. By headers a gateway may tell
// clusters apart.
func (r *reader) sameCluster(path string, s *Search, other string, o *Search) {
	if len(s.Headers) > 0 || len(o.Headers) > 0 {
		return
	}
	for _, u := range s.URLs {
		if slices.Contains(o.URLs, u) {
			r.problemAt(path+".search.urls", "a group is a cluster of its own: leave it out, or name another one", "%s.search.urls: %s is in %s, too, and both would move the same aliases", path, u, other)
			return
		}
	}
}

// applyGroup reads the group of a worker from the file of run, and of search only what is for all clusters. It
// returns what is for the group.
func (r *reader) applyGroup(c *Config, group string, search, groups *yaml.Node) *Config {
	if size := entry(search, "max_document_bytes"); size != nil {
		r.places["search.max_document_bytes"] = size.Line
		r.expand(size)
		r.maxDocumentBytes(&c.Search)(size, "search.max_document_bytes")
	}
	if c.Kafka == nil {
		return c // reported as such
	}
	var names []string
	if groups != nil {
		r.places["kafka.groups"] = groups.Line
		r.entries(groups, "kafka.groups", func(key, value *yaml.Node) {
			if names = append(names, key.Value); key.Value == group {
				r.expand(value)
				c.Kafka.Groups = []KafkaGroup{r.kafkaGroup(key, value, "kafka.groups."+group)}
				r.groups(c)
			}
		})
	}
	if of, there := c.OfGroup(group); there {
		return of
	}
	if groups != nil && groups.Kind != yaml.MappingNode && !isNull(groups) {
		return c // reported as such
	}
	hint := "groups: {" + group + ": {search: {urls: [https://" + group + ".example.com:9200]}}}"
	if len(names) > 0 {
		hint = "those that there are: " + strings.Join(names, ", ")
	}
	r.problemAt("kafka.groups", hint, "kafka.groups: there is no group %s", group)
	return c
}

// entry returns the value of a key, nil without one.
func entry(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// without returns a mapping without one of its keys, and the value of that, nil if it is not there.
func without(n *yaml.Node, name string) (rest, value *yaml.Node) {
	if value = entry(n, name); value == nil {
		return n, nil
	}
	left := *n
	left.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != name {
			left.Content = append(left.Content, n.Content[i], n.Content[i+1])
		}
	}
	return &left, value
}
