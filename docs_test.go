package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"tidemark/mapping"
)

// manual returns the pages of the manual.
func manual(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(pages, "README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md")
}

// namedFile finds files and folders of the tree that the manual names in code spans.
var namedFile = regexp.MustCompile("`((?:dbsync|mapping|indexer|reindex|internal|testenv|bench|deploy|docs)/[A-Za-z0-9_./*-]*)`")

// link finds links to other pages and files.
var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestDocsNameWhatIsThere makes sure that files which are named in the manual exist: a reader
// who is sent to one finds it.
func TestDocsNameWhatIsThere(t *testing.T) {
	named := 0
	for _, page := range append(manual(t), "CHANGELOG.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedFile.FindAllSubmatch(text, -1) {
			named++
			if found, err := filepath.Glob(strings.TrimSuffix(string(m[1]), "/")); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(m[1]))); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("the manual names %d files: has its form changed?", named)
	}
}

// namedTest finds tests that the manual names: `TestMigrations/names-exchanged`.
var namedTest = regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?`")

// testFunction finds where they begin.
var testFunction = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)

// TestDocsNameTestsThatAreThere makes sure that each test that docs/schema-changes.md names for a
// statement, and docs/faults.md for a fault, is one: a function, and a case of that name in its file.
func TestDocsNameTestsThatAreThere(t *testing.T) {
	files := make(map[string]string) // test -> the text of its file, with the names of cases as of subtests
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunction.FindAllSubmatch(text, -1) {
			files[string(m[1])] = strings.ReplaceAll(string(text), " ", "-")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs/schema-changes.md", "docs/faults.md"} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		named := namedTest.FindAllStringSubmatch(string(page), -1)
		for _, m := range named {
			text, ok := files[m[1]]
			if !ok {
				t.Errorf("%s names %s, which is no test", name, m[1])
			} else if m[2] != "" && !strings.Contains(text, `"`+m[2]+`"`) {
				t.Errorf("%s names %s/%s, which is no case of that test", name, m[1], m[2])
			}
		}
		if len(named) < 50 {
			t.Errorf("%s names %d tests: has its form changed?", name, len(named))
		}
	}
}

// TestEveryFaultIsDocumented makes sure that each row of the tables of docs/faults.md names a
// test, and that what make chaos draws is in the last one.
func TestEveryFaultIsDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	faults, kinds, _ := strings.Cut(string(page), "## All at once")
	for line := range strings.Lines(faults) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| fault ") && !strings.HasPrefix(line, "| --- ") && !namedTest.MatchString(line) {
			t.Errorf("docs/faults.md has no test for: %s", line)
		}
	}
	source, err := os.ReadFile("testenv/chaos/kind.go")
	if err != nil {
		t.Fatal(err)
	}
	drawn := regexp.MustCompile(`\{name: "([a-z-]+)"`).FindAllSubmatch(source, -1)
	for _, m := range drawn {
		if !strings.Contains(kinds, "`"+string(m[1])+"`") {
			t.Errorf("docs/faults.md says nothing of %s, which make chaos draws", m[1])
		}
	}
	if len(drawn) < 20 {
		t.Errorf("make chaos draws %d kinds: has its form changed?", len(drawn))
	}
}

// statements are those of Postgres 18 that alter something
// (https://www.postgresql.org/docs/18/sql-commands.html), and the actions of ALTER TABLE.
var statements = []string{
	"ALTER COLLATION", "ALTER CONVERSION", "ALTER DATABASE", "ALTER DEFAULT PRIVILEGES", "ALTER DOMAIN", "ALTER EVENT TRIGGER", "ALTER EXTENSION", "ALTER FOREIGN DATA WRAPPER",
	"ALTER FOREIGN TABLE", "ALTER FUNCTION", "ALTER GROUP", "ALTER INDEX", "ALTER LANGUAGE", "ALTER LARGE OBJECT", "ALTER MATERIALIZED VIEW", "ALTER OPERATOR", "ALTER OPERATOR CLASS",
	"ALTER OPERATOR FAMILY", "ALTER POLICY", "ALTER PROCEDURE", "ALTER AGGREGATE", "ALTER PUBLICATION", "ALTER ROLE", "ALTER ROUTINE", "ALTER RULE", "ALTER SCHEMA", "ALTER SEQUENCE", "ALTER SERVER",
	"ALTER STATISTICS", "ALTER SUBSCRIPTION", "ALTER SYSTEM", "ALTER TABLE", "ALTER TABLESPACE", "ALTER TEXT SEARCH CONFIGURATION", "ALTER TEXT SEARCH DICTIONARY", "ALTER TEXT SEARCH PARSER",
	"ALTER TEXT SEARCH TEMPLATE", "ALTER TRIGGER", "ALTER TYPE", "ALTER USER", "ALTER USER MAPPING", "ALTER VIEW",
	"ADD COLUMN", "DROP COLUMN", "RENAME COLUMN", "RENAME CONSTRAINT", "RENAME TO", "SET SCHEMA", "ALL IN TABLESPACE", "SET TABLESPACE", "ATTACH PARTITION", "DETACH PARTITION", "FINALIZE",
	"SET DEFAULT", "DROP DEFAULT", "SET NOT NULL", "DROP NOT NULL", "SET EXPRESSION", "DROP EXPRESSION", "ADD GENERATED", "SET GENERATED", "DROP IDENTITY", "SET STATISTICS",
	"SET (attribute_option)", "SET STORAGE", "SET COMPRESSION", "ADD table_constraint", "USING INDEX", "ALTER CONSTRAINT", "VALIDATE CONSTRAINT", "DROP CONSTRAINT", "DISABLE TRIGGER", "ENABLE TRIGGER",
	"DISABLE RULE", "ENABLE RULE", "DISABLE", "ENABLE ROW LEVEL SECURITY", "FORCE", "NO FORCE", "CLUSTER ON", "SET WITHOUT CLUSTER", "SET WITHOUT OIDS", "SET ACCESS METHOD", "SET LOGGED", "SET UNLOGGED",
	"SET (storage_parameter)", "RESET (storage_parameter)", "INHERIT", "NO INHERIT", "OF", "NOT OF", "OWNER TO", "REPLICA IDENTITY",
	"TRUNCATE", "VACUUM FULL", "CLUSTER", "REINDEX", "COMMENT", "SECURITY LABEL", "GRANT", "REVOKE", "CREATE RULE", "CREATE TRIGGER", "CREATE POLICY", "DROP TABLE", "CREATE TABLE", "COPY", "MERGE",
}

// TestEveryStatementIsDocumented makes sure that docs/schema-changes.md says of each of them what
// happens.
func TestEveryStatementIsDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/schema-changes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, listed, _ := strings.Cut(string(page), "## Statement by statement")
	for _, s := range statements {
		if !regexp.MustCompile("(?m)^(###|\\|)[^\\n]*\\b" + regexp.QuoteMeta(strings.TrimSuffix(s, ")"))).MatchString(listed) {
			t.Errorf("docs/schema-changes.md says nothing of %s", s)
		}
	}
}

// TestEveryPageIsInTheManual makes sure that a reader finds each page from the first one.
func TestEveryPageIsInTheManual(t *testing.T) {
	contents, err := os.ReadFile("docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range manual(t) {
		if name, ok := strings.CutPrefix(page, "docs/"); ok && name != "README.md" && !strings.Contains(string(contents), "("+name+")") {
			t.Errorf("docs/README.md does not lead to %s", page)
		}
	}
}

// anchor finds links to a part of a page.
var anchor = regexp.MustCompile(`\]\(([^)#:]*)#([^)]*)\)`)

// title finds the headings of a page.
var title = regexp.MustCompile(`(?m)^#+ (.*)$`)

// TestDocsLinkToHeadings makes sure that a link to a part of a page leads to a heading.
func TestDocsLinkToHeadings(t *testing.T) {
	notInAnchors := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, page := range manual(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range anchor.FindAllSubmatch(text, -1) {
			to := page
			if len(m[1]) > 0 {
				to = filepath.Join(filepath.Dir(page), string(m[1]))
			}
			target, err := os.ReadFile(to)
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			var anchors []string
			for _, h := range title.FindAllSubmatch(target, -1) {
				anchors = append(anchors, strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(string(h[1])), ""), " ", "-"))
			}
			if !slices.Contains(anchors, string(m[2])) {
				t.Errorf("%s links to %s#%s, which is no heading there", page, to, m[2])
			}
		}
	}
}

// code finds blocks of code with their language.
var code = regexp.MustCompile("(?ms)^( *)```(\\w+)\n(.*?)^ *```$")

// TestCodeOfTheManual makes sure that what a reader copies from the manual is taken: YAML is a mapping
// file or a part of one, JSON is JSON, Go is Go. The recipes of the cookbook are run besides.
func TestCodeOfTheManual(t *testing.T) {
	mappings := 0
	for _, page := range manual(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range code.FindAllSubmatch(text, -1) {
			language, block := string(m[2]), strings.ReplaceAll("\n"+string(m[3]), "\n"+string(m[1]), "\n")
			err := error(nil)
			switch language {
			case "yaml":
				var part bool
				if part, err = checkMapping(block); part {
					mappings++
				}
			case "json":
				var v any
				err = json.Unmarshal([]byte(block), &v)
			case "go":
				// Statements, or declarations.
				if _, err = parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+block+"}", 0); err != nil {
					if _, whole := parser.ParseFile(token.NewFileSet(), "", "package p\n"+block, 0); whole == nil {
						err = nil
					}
				}
			}
			if err != nil {
				t.Errorf("%s: %s that nobody can use: %v\n%s", page, language, err, block)
			}
		}
	}
	if mappings < 30 {
		t.Errorf("the manual has %d mapping files and parts of them: has its form changed?", mappings)
	}
}

// secretFile finds values that are read from files.
var secretFile = regexp.MustCompile(`\$\{file:[^}]*\}`)

// checkMapping reads a mapping file, or a part of one, which it makes whole. part is false for YAML of
// something else.
func checkMapping(text string) (part bool, err error) {
	var file map[string]any
	if yaml.Unmarshal([]byte(secretFile.ReplaceAllString(text, "a secret of the manual")), &file) != nil || len(file) == 0 {
		return false, nil // a list, as of alerts
	}
	if file["fields"] != nil { // of an index
		file["table"] = "t"
		file = map[string]any{"indices": map[string]any{"t": file}}
	}
	known := []string{"postgres", "search", "kafka", "indices", "admin", "verify", "indexer", "on_error", "on_slot_lost"}
	for key := range file {
		if !slices.Contains(known, key) {
			return false, nil
		}
	}
	give := func(section, key string, value any) {
		if file[section] == nil {
			file[section] = make(map[string]any)
		}
		if of, ok := file[section].(map[string]any); ok && of[key] == nil {
			of[key] = value
		}
	}
	give("postgres", "url", "postgres://localhost/x")
	if of, ok := file["search"].(map[string]any); !ok || of["cloud_id"] == nil {
		give("search", "urls", []string{"http://localhost:9200"})
	}
	if of, ok := file["kafka"].(map[string]any); ok { // files that the reader has
		for _, key := range []string{"ca_file", "cert_file", "key_file"} {
			delete(of, key)
		}
	}
	give("indices", "one-more", map[string]any{"table": "t"})
	whole, err := yaml.Marshal(file)
	if err == nil {
		_, err = mapping.Parse("manual.yaml", whole, func(name string) (string, bool) {
			return map[bool]string{true: "https://localhost:9200", false: "postgres://localhost/x"}[strings.Contains(name, "SEARCH")], true
		})
	}
	return true, err
}

// TestMetricsOfTheManual makes sure that each metric that a page names is one of docs/metrics.md, which a test
// of deploy/ holds against those that there are.
func TestMetricsOfTheManual(t *testing.T) {
	list, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range manual(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`[^`\n]*?\\b(tidemark_[a-z_]+[a-z])\\b[^`\n]*`").FindAllSubmatch(text, -1) {
			found++
			name := regexp.MustCompile(`_(sum|count|bucket)$`).ReplaceAllString(string(m[1]), "")
			if !strings.Contains(string(list), "| `"+string(m[1])+"` |") && !strings.Contains(string(list), "| `"+name+"` | histogram |") {
				t.Errorf("%s names %s, which docs/metrics.md has not", page, m[1])
			}
		}
	}
	if found < 60 {
		t.Errorf("the manual names %d metrics: has its form changed?", found)
	}
}

// codeSpan finds code in a line of text.
var codeSpan = regexp.MustCompile("`([^`]+)`")

// beginning returns the text of an expression, with … for what is put behind a literal; "" if it does
// not begin with one.
func beginning(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		if text := beginning(e.X); text != "" {
			return strings.TrimSuffix(text, "…") + "…"
		}
	}
	return ""
}

// TestEveryReasonIsInTheRunbook makes sure that docs/runbook.md says what to do about each reason of an alarm:
// it is what /readyz, status and the log show to who is on call.
func TestEveryReasonIsInTheRunbook(t *testing.T) {
	page, err := os.ReadFile("docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	named := func(path, key string) {
		found++
		// The page has a name in the place of what is put behind, or nothing.
		key = strings.TrimSpace(strings.TrimSuffix(key, "…"))
		if key == "" || !strings.Contains(string(page), "`"+key) {
			t.Errorf("docs/runbook.md says nothing of the reason %q, of %s", key, path)
		}
	}
	for _, folder := range []string{"dbsync", "indexer", "reindex", "internal"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if key, ok := reasonOf(path, n); ok {
						named(path, key)
					}
				case *ast.FuncDecl:
					if n.Name.Name == "explain" && path == "indexer/search/judge.go" {
						ast.Inspect(n, func(n ast.Node) bool {
							if n, ok := n.(*ast.ReturnStmt); ok {
								named(path, inWords(n.Results[0]))
							}
							return true
						})
					}
					return n.Name.Name != "Do" // whose key is its caller's
				case *ast.KeyValueExpr: // admin.Alarm{Key: "wait for a lock"}
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Key" && path == "internal/service/status.go" {
						if text := beginning(n.Value); text != "" {
							named(path, text)
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 20 {
		t.Errorf("there are %d reasons: has the way to raise them changed?", found)
	}
}

// TestEveryAlertIsInTheRunbook makes sure that who is woken by an alert finds where to begin.
func TestEveryAlertIsInTheRunbook(t *testing.T) {
	page, err := os.ReadFile("docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 10 {
		t.Fatalf("there are %d alerts: has the form of the rules changed?", len(alerts))
	}
	for _, m := range alerts {
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("docs/runbook.md says nothing of the alert %s", m[1])
		}
	}
}

// inWords returns the text of an expression with X for each name in it.
func inWords(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return inWords(e.X) + inWords(e.Y)
	case *ast.CallExpr: // fmt.Sprintf
		text, _, _ := strings.Cut(beginning(e.Args[0]), "%")
		return text
	case *ast.BasicLit:
		return beginning(e)
	}
	return "X"
}

// reasonOf returns the key of the alarm that a call may raise. Those of Manager and Verifier, which repeat
// dozens of steps, are "anything else" in the runbook.
func reasonOf(path string, call *ast.CallExpr) (key string, ok bool) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		if f.Name == "retry" && strings.HasPrefix(path, "dbsync/") && len(call.Args) == 4 && path != "dbsync/refresh.go" { // which only the library has
			return beginning(call.Args[2]), true
		}
	case *ast.SelectorExpr:
		of, _ := f.X.(*ast.Ident)
		switch {
		case f.Sel.Name == "Keep" && len(call.Args) == 3 && path != "indexer/retry/do.go" && path != "indexer/retry/alarm.go":
			// Of bulk requests explain gives it; of recoveries it is no alarm.
			if key := beginning(call.Args[1]); key != "" {
				return key, true
			}
		case of != nil && of.Name == "retry" && f.Sel.Name == "Do" && len(call.Args) == 4:
			if key := beginning(call.Args[2]); key != "" {
				return key, true
			}
		case f.Sel.Name == "watch" && len(call.Args) == 1 && strings.HasPrefix(path, "dbsync/"):
			if key := beginning(call.Args[0]); key != "" {
				return key, true
			}
		}
	}
	return "", false
}

// TestEveryMessageIsDocumented makes sure that docs/messages.md says what each line of level WARN and
// ERROR means: it is what somebody searches for who has it before him.
func TestEveryMessageIsDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	var sources strings.Builder
	look := func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sources.Write(text)
		file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			// retry of dbsync logs what it repeats, and that it failed.
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "retry" && strings.HasPrefix(path, "dbsync/") && len(call.Args) == 4 {
				if what := beginning(call.Args[2]); what == "" || !strings.Contains(string(page), "`"+what+" failed, trying again`") {
					t.Errorf("docs/messages.md says nothing of what %s repeats: %q", path, what)
				}
				found++
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || method.Sel.Name != "Warn" && method.Sel.Name != "Error" {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			message, err := strconv.Unquote(literal.Value)
			found++
			if err != nil || !strings.Contains(string(page), "`"+message+"`") {
				t.Errorf("docs/messages.md says nothing of %s, which %s logs (%v)", literal.Value, path, err)
			}
			return true
		})
		return nil
	}
	for _, folder := range []string{"dbsync", "mapping", "indexer", "reindex", "internal"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			return look(path)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		for _, m := range codeSpan.FindAllStringSubmatch(cells[0], -1) {
			message, _, _ := strings.Cut(m[1], " N ") // a number
			message, repeated := strings.CutSuffix(message, " failed, trying again")
			if repeated {
				message = `"` + strings.TrimSuffix(message, "…")
			}
			if len(cells) > 2 && !strings.Contains(sources.String(), message) {
				t.Errorf("docs/messages.md has %q, which nothing logs", message)
			}
		}
	}
	if found < 40 {
		t.Errorf("%d messages are logged: has the way to log them changed?", found)
	}
}
