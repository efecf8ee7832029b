package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedFile finds files and folders of the tree that the manual names in code spans.
var namedFile = regexp.MustCompile("`((?:dbsync|mapping|indexer|reindex|internal|testenv|bench|deploy|docs)/[A-Za-z0-9_./*-]*)`")

// link finds links to other pages and files.
var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestDocsNameWhatIsThere makes sure that files which are named in the manual exist: a reader
// who is sent to one finds it.
func TestDocsNameWhatIsThere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")
	named := 0
	for _, page := range pages {
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
