package mapping

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/mapping/catalog"
)

var update = flag.Bool("update", false, "write what is expected in testdata anew")

const exampleFile = "../config.example.yaml"

// env is an environment of a few variables.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// exampleEnv has what the example asks for.
var exampleEnv = env("DATABASE_URL", "postgres://u:hunter2@db/shop", "STANDBY_URL", "postgres://u:hunter9@standby/shop", "SEARCH_API_KEY", "hunter3", "ADMIN_TOKEN", "hunter8-hunter8-hunter8", "KAFKA_TOKEN", "hunter11")

// exampleDir makes the files that the example names, and gives the example's text
// with /run/secrets moved there, and a name for it in the same folder.
func exampleDir(t *testing.T) (text, name string) {
	t.Helper()
	dir := t.TempDir()
	ca, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := clientPair(t)
	for file, content := range map[string]string{"ca.pem": string(ca), "client.pem": certificate, "client-key.pem": key, "search": "hunter4\n", "postgres": "hunter5\n", "kafka": "hunter10\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "/run/secrets", dir), filepath.Join(dir, "tidemark.yaml")
}

// clientPair returns a certificate and its key as PEM.
func clientPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

var (
	optional    = regexp.MustCompile(`(?m)^( *)# `)
	alternative = regexp.MustCompile(`(?m)^( *)#or `)
	replaced    = regexp.MustCompile(`(?m)^ *(url|user|password): .*\n`)
)

func TestExample(t *testing.T) {
	text, name := exampleDir(t)
	optionals := optional.ReplaceAllString(text, "$1")
	tests := []struct{ name, text string }{
		{"as it is", text},
		{"optional keys", optionals},
		{"alternatives", alternative.ReplaceAllString(replaced.ReplaceAllString(optionals, ""), "$1")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse(name, []byte(test.text), exampleEnv)
			if err != nil {
				t.Fatal(err)
			}
			c.File = "tidemark.yaml"
			files := []*string{&c.Search.CAFile, &c.Search.CertFile, &c.Search.KeyFile}
			if k := c.Kafka; k != nil {
				files = append(files, &k.CAFile, &k.CertFile, &k.KeyFile)
			}
			for _, file := range files {
				*file = strings.TrimPrefix(*file, filepath.Dir(name)+"/")
			}
			got, err := json.MarshalIndent(c, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "example "+test.name+".golden.json")
			golden = strings.ReplaceAll(golden, " ", "-")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestExampleChoices has each line of the example that begins with ##or in the place of what it
// says it replaces: they exclude each other.
func TestExampleChoices(t *testing.T) {
	text, name := exampleDir(t)
	text = optional.ReplaceAllString(text, "$1")
	choices := regexp.MustCompile(`(?m)^ *##or ([a-z_]+):.*$`).FindAllStringSubmatch(text, -1)
	if len(choices) < 3 {
		t.Fatal(choices)
	}
	for _, choice := range choices {
		lines, drop := text, `(?m)^  (user|password): .*\n`
		switch choice[1] {
		case "cloud_id":
			drop = `(?m)^  urls: .*\n`
		case "sasl":
			drop = `(?m)^  sasl: \{mechanism: scram.*\n`
		}
		lines = strings.Replace(lines, choice[0], strings.Replace(choice[0], "##or ", "", 1), 1)
		if _, err := Parse(name, []byte(lines), exampleEnv); err == nil {
			t.Errorf("%s: nothing is said of what it excludes", choice[1])
		}
		if _, err := Parse(name, []byte(regexp.MustCompile(drop).ReplaceAllString(lines, "")), exampleEnv); err != nil {
			t.Errorf("%s: %v", choice[1], err)
		}
	}
}

func TestSearchOfAWSAndCloud(t *testing.T) {
	for _, test := range []struct{ search, urls, aws string }{
		{`{urls: [https://a, https://b/es/], aws: {region: eu-west-1}}`, "[https://a https://b/es]", "&{eu-west-1 es }"},
		{`{urls: [https://a], aws: {region: us-gov-west-1, service: aoss, role: "arn:aws-us-gov:iam::123456789012:role/path/search"}}`, "[https://a]", "&{us-gov-west-1 aoss arn:aws-us-gov:iam::123456789012:role/path/search}"},
		// us-east-1.aws.found.io$abc$def, and with ports, and without a name
		{`{cloud_id: "shop:dXMtZWFzdC0xLmF3cy5mb3VuZC5pbyRhYmMkZGVm"}`, "[https://abc.us-east-1.aws.found.io]", "<nil>"},
		{`{cloud_id: "` + base64.StdEncoding.EncodeToString([]byte("found.io:9243$abc$def")) + `"}`, "[https://abc.found.io:9243]", "<nil>"},
		{`{cloud_id: "a:` + base64.StdEncoding.EncodeToString([]byte("found.io:9243$abc:9244$")) + `"}`, "[https://abc.found.io:9244]", "<nil>"},
	} {
		c, err := Parse("f.yaml", []byte("search: "+test.search+"\nindices: {a: {table: a}}"), env())
		if err != nil {
			t.Errorf("%s: %v", test.search, err)
			continue
		}
		if urls, aws := fmt.Sprint(c.Search.URLs), fmt.Sprint(c.Search.AWS); urls != test.urls || aws != test.aws {
			t.Errorf("%s: %s, %s; want %s, %s", test.search, urls, aws, test.urls, test.aws)
		}
	}
}

// TestExampleNamesEveryKey fails when a key is added without a line in the example.
func TestExampleNamesEveryKey(t *testing.T) {
	raw, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, name := range []string{"parse.go", "parseserver.go", "parsekafka.go", "parsegroup.go", "parseindex.go", "parsefield.go", "parseinclude.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	keys := regexp.MustCompile(`(?m)^\t+(?:case )?"([a-z_]+)": *.*$`).FindAllStringSubmatch(string(source), -1)
	if len(keys) < 50 {
		t.Fatalf("found only %d keys in the code", len(keys))
	}
	for _, key := range keys {
		if named := strings.Contains(string(raw), key[1]+":"); named == strings.HasSuffix(key[0], " nil,") {
			t.Errorf("key %s: in the example: %v", key[1], named)
		}
	}
}

// TestDefaultsAreWhatTheExampleSays holds the commented values against the code.
func TestDefaultsAreWhatTheExampleSays(t *testing.T) {
	text, name := exampleDir(t)
	bare, err := Parse(name, []byte(text), exampleEnv)
	if err != nil {
		t.Fatal(err)
	}
	full, err := Parse(name, []byte(optional.ReplaceAllString(text, "$1")), exampleEnv)
	if err != nil {
		t.Fatal(err)
	}
	if bare.Kafka != nil {
		t.Error("kafka is not optional")
	}
	bare.Kafka = parseKafka(t, "{brokers: [kafka-1:9092, kafka-2:9092]}")
	for _, c := range []*Config{bare, full} { // what has no default
		c.Kafka.TLS, c.Kafka.CAFile, c.Kafka.CertFile, c.Kafka.KeyFile, c.Kafka.SASL, c.Kafka.Groups = false, "", "", "", nil, nil
		c.Search = Search{URLs: c.Search.URLs, Bulk: c.Search.Bulk, MaxDocumentBytes: c.Search.MaxDocumentBytes}
		c.Admin.Token, c.Admin.Hosts, c.Postgres.ReplicationURL = Secret{}, nil, Secret{}
		c.Indices = c.Indices[:1]
		ix := c.Indices[0]
		ix.Settings, ix.Mappings = nil, nil
		*ix.Sources[0] = Source{Table: ix.Sources[0].Table}
	}
	if diff := cmp.Diff(bare, full, cmp.AllowUnexported(Index{}), cmpopts.IgnoreUnexported(Config{}, Source{})); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	const text = `
postgres: {host: db, port: "${PORT}", user: o'neil\x, password: 0123}
search: {urls: "${URLS}", bulk: {bytes: 90000, documents: 1_000, poison_after: 90s}, max_document_bytes: 2MiB}
indices:
  a: &base
    table: '"Weird"."x.""y"'
    id: code
    fields: {"*": false, on: true, code: {column: c1, type: keyword, ignore_above: 10, fields: {raw: {type: text}}}, "x.y": true}
    settings: {index: {refresh_interval: 1s, a: [1, 2.5, true, null, 2026-01-31, "${PORT}"]}}
  b:
    <<: *base
    table: Album
    mappings:
    reindex: {chunk: 1, keep_old: 2}
`
	c, err := Parse("x/t.yaml", []byte(text), env("PORT", "5433", "URLS", "http://[::1]:9200/es/"))
	if err != nil {
		t.Fatal(err)
	}
	fields := []Field{
		{Name: "on", Column: "on"},
		{Name: "code", Column: "c1", Params: map[string]any{"type": "keyword", "ignore_above": 10, "fields": map[string]any{"raw": map[string]any{"type": "text"}}}},
		{Name: "x.y", Column: "x.y"},
	}
	settings := map[string]any{"index": map[string]any{"refresh_interval": "1s", "a": []any{1, 2.5, true, nil, "2026-01-31", "5433"}}}
	want := &Config{
		File: "x/t.yaml",
		Postgres: Postgres{Host: "db", Port: 5433, User: `o'neil\x`, Password: NewSecret("0123"),
			Slot: "dbsync_replslot", Publication: "dbsync_mypub", ControlSchema: "dbsync_ctrl", PublishColumns: PublishColumnsAuto, Failover: true},
		Search:     Search{URLs: []string{"http://[::1]:9200/es"}, Bulk: Bulk{Requests: 16, Bytes: 90000, Documents: 1000, PoisonAfter: 90 * time.Second}, MaxDocumentBytes: 2 << 20},
		Admin:      Admin{Listen: "127.0.0.1:9630"},
		OnError:    OnErrorDeadLetter,
		OnSlotLost: OnSlotLostStop,
		Indexer:    Indexer{FanOut: 10_000},
		Verify:     Verify{Every: 24 * time.Hour, RowsPerSecond: 2000, OnDifference: OnDifferenceRepair, ReadyWhileUnproven: true},
		Indices: []*Index{
			indexOf(Index{Key: "a", Name: "a", MaxIndices: DefaultMaxIndices, Settings: settings, Reindex: Reindex{Chunk: 10000}, MaxDocumentBytes: 2 << 20},
				Source{Table: catalog.TableName{Schema: "Weird", Name: `x."y`}, ID: []string{"code"}, Shape: Shape{Fields: fields, Listed: true}}),
			indexOf(Index{Key: "b", Name: "b", MaxIndices: DefaultMaxIndices, Settings: settings, Reindex: Reindex{Chunk: 1, KeepOld: 2}, MaxDocumentBytes: 2 << 20},
				Source{Table: catalog.TableName{Schema: "public", Name: "Album"}, ID: []string{"code"}, Shape: Shape{Fields: fields, Listed: true}}),
		},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(Config{}, Index{}, Source{}, Field{})); diff != "" {
		t.Error(diff)
	}
	if got, want := c.Postgres.ConnString(), `host='db' port='5433' user='o\'neil\\x' password='0123'`; got != want {
		t.Errorf("ConnString: %s, want %s", got, want)
	}
	if got := (Postgres{}).ConnString(); got != "" {
		t.Errorf("ConnString of nothing: %s", got)
	}
}

// TestBadFiles gives each testdata/bad/WHAT.bad.yaml to Parse. What it must say
// stands in the file itself, in the lines that begin with "#!".
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.bad.yaml")
	if err != nil || len(files) < 60 {
		t.Fatal(len(files), err)
	}
	lookup := env("SECRET", "hunter2", "EMPTY", "", "PORT", "hunter2")
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(file, text, lookup)
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("no problems but %v", err)
			}
			got := strings.ReplaceAll(err.Error(), file+":", "") + "\n"
			if strings.Contains(got, "hunter") {
				t.Errorf("the secret is in it: %s", got)
			}
			expect(t, file, string(text), got)
		})
	}
}

// expect holds got against the lines of the file that begin with "#!".
func expect(t *testing.T, file, text, got string) {
	t.Helper()
	var input, want strings.Builder
	for line := range strings.Lines(text) {
		if said, ok := strings.CutPrefix(line, "#! "); ok {
			want.WriteString(said)
		} else {
			input.WriteString(line)
		}
	}
	if *update {
		for line := range strings.Lines(got) {
			input.WriteString("#! " + line)
		}
		if err := os.WriteFile(file, []byte(input.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want.String() {
		t.Errorf("got\n%swant\n%s", got, want.String())
	}
}

func TestReadOfNoFile(t *testing.T) {
	_, err := Read("testdata/none.yaml")
	if want := "testdata/none.yaml: cannot be read: no such file or directory\n    hint: name a mapping file that is there and can be read; tidemark init drafts one"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestSecretsDoNotLeak prints a configuration full of secrets in every way there is.
func TestSecretsDoNotLeak(t *testing.T) {
	text, name := exampleDir(t)
	c, err := Parse(name, []byte(optional.ReplaceAllString(text, "$1")), exampleEnv)
	if err != nil {
		t.Fatal(err)
	}
	c.Postgres.Password, c.Search.APIKey = NewSecret("hunter6"), NewSecret("hunter7")
	c.Kafka.SASL.Token, c.Kafka.SASL.ClientSecret = NewSecret("hunter12"), NewSecret("hunter13")
	c.Search.Token, c.Search.ProxyURL, c.Search.Headers = NewSecret("hunter8"), NewSecret("http://u:hunter9@p"), []Header{{"X-A", NewSecret("hunter10")}}
	var out bytes.Buffer
	within := struct{ unexported Postgres }{c.Postgres}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, value := range []any{c, *c, c.Postgres, &c.Search, c.Kafka, *c.Kafka, c.Kafka.SASL, *c.Kafka.SASL, c.Search.Password, &c.Search.Password, []Secret{c.Search.APIKey}, within} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	fmt.Fprintln(&out, c.Search.Password, c.Search.Password.String(), c.Search.Password.GoString())
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("start", "config", c, "password", c.Search.Password, "postgres", c.Postgres)
	}
	enc := json.NewEncoder(&out)
	if err := enc.Encode(map[string]any{"config": c, "password": c.Search.Password}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter", fmt.Sprintf("%x", "hunter")} {
		if i := strings.Index(out.String(), secret); i >= 0 {
			t.Errorf("the secret is in …%s", out.String()[max(0, i-60):i+20])
		}
	}
	if !strings.Contains(out.String(), hidden) {
		t.Error("no *** at all: the test tests nothing")
	}
	if got := c.Postgres.ConnString(); got != "postgres://u:hunter2@db/shop" {
		t.Errorf("ConnString: %s", got)
	}
}

// FuzzParse looks for panics, in what is done with a mapping that fits the tables as well, for problems that show what came out of ${…}, and
// for those without file and text.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, index := range []string{nested, "\n  a: {tables: [{table: tags, id: \"t-{id}\"}, {table: products, id: \"p-{id}\", where: width > 1, fields: {up: {expr: title}}}]}\n"} {
		f.Add([]byte("search: {urls: [http://h]}\nindices:" + index))
	}
	for _, file := range append(files, exampleFile) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add([]byte(optional.ReplaceAllString(string(text), "$1")))
	}
	const secret = "\x01s3cr3t"
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("f.yaml", text, func(string) (string, bool) { return secret, true })
		if err == nil {
			if len(c.Patterns()) > 0 {
				if c, err = c.InSchemas([]catalog.TableName{{Schema: "tenant_1", Name: "products"}, {Schema: "tenant_2", Name: "products"}}); err != nil {
					return
				}
			}
			c.Check(nil)
			use(t, c, relatedTables())
			if len(c.Indices) == 0 {
				t.Error("no index and no problem")
			}
			return
		}
		for _, p := range err.(Problems) {
			if p.File != "f.yaml" || p.Text == "" || p.Line < 0 {
				t.Errorf("%#v", p)
			}
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the secret is in %s", err)
		}
	})
}

// use does with a mapping all that needs no rows, if it fits the tables.
func use(t *testing.T, c *Config, tables catalog.Tables) {
	t.Helper()
	if len(c.Check(tables)) > 0 {
		return
	}
	for _, ix := range c.Indices {
		if stored := roundTrip(t, ix); stored.Fingerprint(tables) != ix.Fingerprint(tables) {
			t.Fatal("stored, it would make other documents")
		}
		for _, s := range ix.Sources {
			s.Describe(tables)
			sel, err := s.Select(tables)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Compile(s, tables[s.Table], sel.Names); err != nil {
				t.Fatal(err)
			}
			for _, p := range s.Paths() {
				p.Uses(tables[p.Table()])
				keys := make([][][]byte, len(p.Columns()))
				if _, _, err := s.Find(tables, []Lookup{{p, keys}}, nil, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestUse makes sure that the seeds of FuzzParse fit the tables.
func TestUse(t *testing.T) {
	c, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:"+nested), env())
	if err != nil {
		t.Fatal(err)
	}
	if problems := c.Check(relatedTables()); len(problems) > 0 {
		t.Fatal(problems)
	}
	use(t, c, relatedTables())
}

func TestParseVerify(t *testing.T) {
	for text, want := range map[string]Verify{
		"{}":           {24 * time.Hour, 2000, OnDifferenceRepair, true},
		"{every: off}": {0, 2000, OnDifferenceRepair, true},
		"{every: 0}":   {0, 2000, OnDifferenceRepair, true},
		"{every: 1h30m, rows_per_second: 1, on_difference: report, ready_while_unproven: false}": {90 * time.Minute, 1, OnDifferenceReport, false},
	} {
		c, err := Parse("f.yaml", []byte("search: {urls: [https://localhost:9200]}\nverify: "+text+"\nindices: {a: {table: a}}"), env())
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if c.Verify != want {
			t.Errorf("%s: %+v", text, c.Verify)
		}
	}
}
