package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"tidemark/testenv"
)

// TestCheckSaysWhatAProductLacks has products that cannot be used, which is said at the key that
// leads to them, and one that can be, of a release that is not tested.
func TestCheckSaysWhatAProductLacks(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)")
	indices := "  " + search.NewPrefix(t) + "a: {table: a}\n"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), indices)
	inSearch := func(lines string) {
		t.Helper()
		text, err := os.ReadFile(f.path)
		if err == nil {
			err = os.WriteFile(f.path, []byte(strings.Replace(string(text), "\nadmin:", "\n"+lines+"admin:", 1)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	inSearch("  aws:\n    region: eu-west-1\n    service: aoss\n")
	refused(t, f, `t.yaml:8: search.aws.service: search server `+search.URL+`: Amazon OpenSearch Serverless cannot be used: it has no scroll and no _refresh, does not say when shards were started again (_recovery), and has no page at / with its version
    hint: use a domain of Amazon OpenSearch Service, and service: es
`)
	serverless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"cluster_name":"c","cluster_uuid":"u","version":{"number":"8.11.0","build_flavor":"serverless"},"tagline":"You Know, for Search"}`))
	}))
	t.Cleanup(serverless.Close)
	f.write(t, d.URL, serverless.URL, indices)
	refused(t, f, `t.yaml:5: search.urls: search server `+serverless.URL+`: Elasticsearch 8.11.0 cannot be used: it does not say when shards were started again (_recovery), and takes no index.gc_deletes, which keeps deleted documents deleted
    hint: use Elastic Cloud Hosted, or a cluster of your own
`)
	proxy := search.NewProxy(t)
	proxy.Inject(testenv.Page(`{"cluster_name":"c","cluster_uuid":"u","version":{"number":"4.1.0","distribution":"opensearch"}}`, 0, func(r *testenv.Request) bool { return r.Path == "/" }))
	f.write(t, d.URL, proxy.URL, indices)
	code, out, wrong := tidemark(t, "check", "-c", f.path)
	if code != 0 || !strings.Contains(out, "OpenSearch 4.1.0, cluster c\n  OpenSearch from 4 on: it is newer than the releases that are tested\n    hint: look for a newer release of Tidemark\n") {
		t.Errorf("exit code %d: %s%s", code, out, wrong)
	}
}

// TestGateway has the command go through a gateway by each way to say who asks, which the file gives
// by ${file:…}; with a wrong one, what is said names the key and no secret.
func TestGateway(t *testing.T) {
	keys := testenv.AWSKeys{ID: "AKIDTEST", Secret: "aws-s3cret", Region: "eu-west-1", Service: "es"}
	for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", keys.ID)
	for _, test := range []struct {
		name    string
		gateway testenv.GatewayOptions
		keys    string // of search; TOKEN is a file
		key     string // that is named when it is wrong
	}{
		{name: "token", gateway: testenv.GatewayOptions{Token: "t0ken-s3cret"}, keys: "  token: ${file:TOKEN}\n", key: "t.yaml:6: search.token: "},
		{name: "aws", gateway: testenv.GatewayOptions{AWS: &keys}, keys: "  aws: {region: eu-west-1}\n", key: "t.yaml:6: search.aws: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := testenv.NewDatabase(t)
			search := testenv.SharedSearch(t, testenv.Engines(t)[0])
			d.Exec(t, "create table a (id int primary key)", "insert into a select generate_series(1, 100)")
			g := testenv.NewGateway(t, search.URL, test.gateway)
			token := t.TempDir() + "/token"
			f := newFile(t, d.URL, g.URL, d.Unique("slot"), "  "+search.NewPrefix(t)+"a: {table: a}\n")
			text, err := os.ReadFile(f.path)
			if err == nil {
				more := strings.Replace(test.keys, "TOKEN", token, 1) + "  ca_file: " + g.CAFile + "\n"
				err = os.WriteFile(f.path, []byte(strings.Replace(string(text), "\nadmin:", "\n"+more+"admin:", 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			secret := func(is string) {
				t.Helper()
				t.Setenv("AWS_SECRET_ACCESS_KEY", is)
				if err := os.WriteFile(token, []byte(is+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			secret("wr0ng-s3cret")
			code, out, wrong := tidemark(t, "check", "-c", f.path)
			if code != exitConfig || !strings.Contains(strings.ReplaceAll(wrong, f.path, "t.yaml"), test.key) || strings.Contains(out+wrong, "s3cret") {
				t.Errorf("exit code %d:\n%s", code, wrong)
			}
			if test.gateway.AWS != nil {
				secret(keys.Secret)
			} else {
				secret(test.gateway.Token)
			}
			if code, _, wrong := tidemark(t, "run", "--once", "--log-level", "error", "-c", f.path); code != 0 {
				t.Fatalf("exit code %d:\n%s", code, wrong)
			}
			if code, out, wrong := tidemark(t, "status", "-c", f.path); code != 0 || !regexp.MustCompile(`live +100 `).MatchString(out) {
				t.Errorf("exit code %d:\n%s%s", code, out, wrong)
			}
			if len(g.Refusals()) == 0 || g.Passed() == 0 {
				t.Errorf("the gateway has refused %d requests and passed %d", len(g.Refusals()), g.Passed())
			}
		})
	}
}
