package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"tidemark/testenv"
)

// cookbook is the page whose recipes are run.
const cookbook = "../../docs/cookbook.md"

// A recipe is a section of the page.
type recipe struct {
	title  string
	engine testenv.Engine // that it needs; "": any
	steps  []step
}

// A step is a block of code: sql is run, yaml is the mapping, json are documents by id, console is
// a request to the server, with the ids that it finds, in their order, sh is a command with a line that
// it prints.
type step struct{ language, text string }

var (
	heading = regexp.MustCompile(`(?m)^### (.*)$`)
	engine  = regexp.MustCompile(`<!-- engine: (\w+) -->`)
	block   = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	shell   = regexp.MustCompile(`^tidemark (.*)\n# (.*)$`)
	request = regexp.MustCompile(`(?s)^(GET|PUT) (/\S+)\n(.*?)(?:\n# (.*))?$`)
)

// recipes reads the page.
func recipes(t *testing.T) (all []recipe) {
	t.Helper()
	page, err := os.ReadFile(cookbook)
	must(t, err)
	places := heading.FindAllSubmatchIndex(page, -1)
	for i, place := range places {
		end := len(page)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		r, section := recipe{title: string(page[place[2]:place[3]])}, page[place[1]:end]
		if m := engine.FindSubmatch(section); m != nil {
			r.engine = testenv.Engine(m[1])
		}
		for _, m := range block.FindAllSubmatch(section, -1) {
			r.steps = append(r.steps, step{string(m[1]), strings.TrimSpace(string(m[2]))})
		}
		all = append(all, r)
	}
	return all
}

// TestCookbook runs every recipe of the manual as it stands there.
func TestCookbook(t *testing.T) {
	all := recipes(t)
	if len(all) < 20 {
		t.Fatalf("%s has %d recipes: has its form changed?", cookbook, len(all))
	}
	for _, r := range all {
		t.Run(r.title, func(t *testing.T) {
			t.Parallel()
			r.run(t)
		})
	}
}

func (r *recipe) run(t *testing.T) {
	engines := testenv.Engines(t)
	e := engines[0]
	if r.engine != "" {
		if e = r.engine; !slices.Contains(engines, e) {
			t.Skipf("it needs %s", e)
		}
	} else if e != testenv.OpenSearch3 {
		t.Skipf("the recipes are written for %s", testenv.OpenSearch3)
	}
	s := newSetup(t, testenv.SharedSearch(t, e))
	seen := make(map[string]int)
	var names []string
	for _, step := range r.steps {
		seen[step.language]++
		switch step.language {
		case "sql":
			s.db.Exec(t, step.text)
			if seen["yaml"] > 0 {
				s.once(t)
			}
		case "yaml":
			names = s.takeMapping(t, step.text)
			s.once(t)
		case "json":
			s.wantDocuments(t, names, step.text)
		case "console":
			s.send(t, names, step.text)
		case "sh":
			s.wantLine(t, names, step.text)
		default:
			t.Errorf("nobody runs a block of %q", step.language)
		}
	}
	if seen["sql"] == 0 || seen["yaml"] != 1 || seen["json"]+seen["console"] == 0 {
		t.Errorf("the recipe is not whole: %v", seen)
	}
}

// takeMapping makes the indices of a mapping those of the file, each with the prefix before its name,
// and returns their names.
func (s *setup) takeMapping(t *testing.T, text string) (names []string) {
	t.Helper()
	var file struct {
		Indices map[string]yaml.Node `yaml:"indices"`
	}
	must(t, yaml.Unmarshal([]byte(text), &file))
	indices := make(map[string]*yaml.Node)
	for name, node := range file.Indices {
		s.renamePipeline(&node)
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == "name" {
				name = node.Content[i+1].Value
				node.Content[i+1].Value = s.alias(name)
			}
		}
		names = append(names, name)
		indices[s.alias(name)] = &node
	}
	body, err := yaml.Marshal(map[string]any{"indices": indices})
	must(t, err)
	s.text = fmt.Sprintf("postgres: {url: %q, slot: %s}\nsearch: {urls: [%q]}\n%s", s.postgresURL, s.slot, s.searchURL, body)
	return names
}

// renamePipeline has a pipeline that the settings name be one of this test alone.
func (s *setup) renamePipeline(index *yaml.Node) {
	for i, n := range index.Content {
		if n.Value == "default_pipeline" {
			index.Content[i+1].Value = s.alias(index.Content[i+1].Value)
		}
		s.renamePipeline(n)
	}
}

// wantDocuments looks for documents, by id, or by index and id.
func (s *setup) wantDocuments(t *testing.T, names []string, text string) {
	t.Helper()
	var wanted map[string]any
	must(t, json.Unmarshal([]byte(text), &wanted))
	for key, want := range wanted {
		name, id := names[0], key
		if len(names) > 1 || strings.Contains(name, "{") {
			name, id, _ = strings.Cut(key, "/")
		}
		query, err := json.Marshal(map[string]any{"query": map[string]any{"ids": map[string]any{"values": []string{id}}}})
		must(t, err)
		var got any
		for _, hit := range s.find(t, "/"+s.alias(name)+"/_search", query) {
			got = hit.Source
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("document %s (-want +got):\n%s", key, diff)
		}
	}
}

// wantLine runs a command of the page, and looks for the line that it is to print.
func (s *setup) wantLine(t *testing.T, names []string, text string) {
	t.Helper()
	m := shell.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no command: %s", text)
	}
	args := strings.Fields(m[1])
	for i, arg := range args {
		if slices.Contains(names, arg) {
			args[i] = s.alias(arg)
		}
	}
	out, _ := s.command(t, strings.Join(args, " "))
	if !slices.Contains(strings.Split(strings.ReplaceAll(out, s.prefix, ""), "\n"), m[2]) {
		t.Errorf("tidemark %s does not print %q:\n%s", m[1], m[2], out)
	}
}

// A hit is a document that a search found.
type hit struct {
	ID     string `json:"_id"`
	Source any    `json:"_source"`
}

// find searches, when what is stored can be searched.
func (s *setup) find(t *testing.T, path string, query []byte) []hit {
	t.Helper()
	index, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	s.request(t, http.MethodPost, "/"+index+"/_refresh", nil)
	var found struct {
		Hits struct {
			Hits []hit `json:"hits"`
		} `json:"hits"`
	}
	must(t, json.Unmarshal(s.request(t, http.MethodPost, path, query), &found))
	return found.Hits.Hits
}

// request asks the server, which must say yes.
func (s *setup) request(t *testing.T, method, path string, body []byte) []byte {
	t.Helper()
	status, answer, err := s.search.Do(t.Context(), method, path, body)
	must(t, err)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// send sends a request of the page, and looks what it finds.
func (s *setup) send(t *testing.T, names []string, text string) {
	t.Helper()
	m := request.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no request: %s", text)
	}
	if pipeline, ok := strings.CutPrefix(m[2], "/_ingest/pipeline/"); ok {
		path := "/_ingest/pipeline/" + url.PathEscape(s.alias(pipeline))
		s.request(t, m[1], path, []byte(m[3]))
		t.Cleanup(func() { _, _, _ = s.search.Do(t.Context(), http.MethodDelete, path, nil) })
		return
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(m[2], "/"), "/")
	if !slices.Contains(names, name) || !strings.HasPrefix(rest, "_search") {
		t.Fatalf("%s is no search in %v", m[2], names)
	}
	var ids []string
	for _, h := range s.find(t, "/"+s.alias(name)+"/"+rest, []byte(m[3])) {
		ids = append(ids, h.ID)
	}
	if got := strings.Join(ids, ", "); got != m[4] {
		t.Errorf("%s\nfinds %s", text, got)
	}
}
