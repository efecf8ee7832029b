package mapping

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestPrint has secrets masked, what the environment gives filled in, and defaults beside what the file says.
func TestPrint(t *testing.T) {
	const text = `postgres: {url: "${DATABASE_URL}"}
search:
  urls: ["${URL}"]   # hunter9
  user: "${USER_NAME}"
  password: 12345
  bulk: {requests: "${N}"}
x: &x {table: t, settings: {a: "${API_TOKEN}", b: $$x, c: "1"}}
indices: {a: *x}
`
	got, err := printFile("t.yaml", []byte(strings.Replace(text, "x: &x", "verify:\nindices: &i\n  a:", 1)), env("DATABASE_URL", "x"))
	if err == nil || got != nil {
		t.Errorf("a file with mistakes: %s, %v", got, err)
	}
	good := strings.Replace(text, "x: &x {", "verify:\nindices:\n  a: {", 1)
	good, _, _ = strings.Cut(good, "indices: {a: *x}")
	got, err = printFile("t.yaml", []byte(good), env("DATABASE_URL", "postgres://me:hunter2@db/shop?sslmode=require", "URL", "http://h:9200", "N", "7", "USER_NAME", "42", "API_TOKEN", "hunter3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"url: 'postgres://me:***@db/shop?sslmode=require'", "urls: ['http://h:9200']", "password: '***'", "requests: 7", `user: "42"`, "bytes: 8MiB", "a: '***'", "b: $x", `c: "1"`, "every: 24h", "chunk: 10000", "listen: 127.0.0.1:9630", "control_schema: dbsync_ctrl"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("it lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "hunter") || strings.Contains(string(got), "12345") {
		t.Errorf("a secret is in it:\n%s", got)
	}
	for text, want := range map[string]string{"postgres://me@db/shop": "postgres://me@db/shop", "host=h password=x": hidden, "postgres://db/shop?password=x": hidden, "hunter2": hidden} {
		if got := redacted(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestPrintIsTheFile reads what is printed of the example, in all of its forms: but for secrets it says the same.
func TestPrintIsTheFile(t *testing.T) {
	text, name := exampleDir(t)
	optionals := optional.ReplaceAllString(text, "$1")
	for what, text := range map[string]string{"as it is": text, "optional keys": optionals, "alternatives": alternative.ReplaceAllString(replaced.ReplaceAllString(optionals, ""), "$1")} {
		before, err := Parse(name, []byte(text), exampleEnv)
		if err != nil {
			t.Fatal(err)
		}
		printed, err := printFile(name, []byte(text), exampleEnv)
		if err != nil {
			t.Fatal(err)
		}
		// Two secrets have a form of their own.
		readable := []byte(strings.NewReplacer("proxy_url: '***'", "proxy_url: http://proxy", " token: '***'", " token: '****************'").Replace(string(printed)))
		after, err := Parse(name, readable, env())
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, printed)
		}
		if strings.Contains(string(printed), "hunter") {
			t.Errorf("%s: a secret is in it:\n%s", what, printed)
		}
		ignored := cmp.Options{cmpopts.IgnoreTypes(Secret{}), cmpopts.IgnoreUnexported(Config{}, Index{}, Source{}, Field{}, Include{}), cmpopts.IgnoreFields(Source{}, "Index")}
		if diff := cmp.Diff(before, after, ignored); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		again, err := printFile(name, readable, env())
		if err != nil || string(again) != string(printed) {
			t.Errorf("%s: printed again it is another one, %v", what, err)
		}
	}
}

// TestPrintKafka has what proves who asks masked, in each of the forms.
func TestPrintKafka(t *testing.T) {
	for _, sasl := range []string{"mechanism: plain, user: me, password: hunter2", "mechanism: oauthbearer, token: hunter2", "mechanism: oauthbearer, token_url: 'https://h/t', client_id: me, client_secret: hunter2"} {
		text := "search: {urls: [http://h]}\nindices: {a: {table: a}}\nkafka: {brokers: [k:1], sasl: {" + sasl + "}}\n"
		got, err := printFile("t.yaml", []byte(text), env())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"topic: tidemark", "partitions: 12", "retention: 168h", "compression: snappy", "max_lag: 1000000", "tls: false", "'***'"} {
			if !strings.Contains(string(got), want) {
				t.Errorf("it lacks %s:\n%s", want, got)
			}
		}
		if strings.Contains(string(got), "hunter") {
			t.Errorf("a secret is in it:\n%s", got)
		}
	}
	got, err := printFile("t.yaml", []byte("search: {urls: [http://h]}\nindices: {a: {table: a}}\n"), env())
	if err != nil || strings.Contains(string(got), "kafka") {
		t.Errorf("without kafka, %v:\n%s", err, got)
	}
}
