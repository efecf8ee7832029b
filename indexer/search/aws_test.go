package search_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// TestSignatureVectors holds the signer against signatures that AWS has published: its test suite
// for Signature Version 4 (those without a number), and the examples of the manuals of IAM and S3.
func TestSignatureVectors(t *testing.T) {
	const (
		suiteKey, suiteSecret = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
		s3Key, s3Secret       = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
		suiteTime, s3Time     = "20150830T123600Z", "20130524T000000Z"
		emptyHash             = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	)
	const token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/" +
		"qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+" +
		"scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
	for _, test := range []struct {
		name, method, url, body string
		header                  map[string]string
		session, service        string
		want                    string
	}{
		{"get-vanilla", "GET", "https://example.amazonaws.com/", "", nil, "", "service", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"get-vanilla-query-order-key-case", "GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", "", nil, "", "service", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-vanilla", "POST", "https://example.amazonaws.com/", "", nil, "", "service", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"post-header-value-case", "POST", "https://example.amazonaws.com/", "", map[string]string{"My-Header1": "VALUE1"}, "", "service", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
		{"post-x-www-form-urlencoded", "POST", "https://example.amazonaws.com/", "Param1=value1", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "", "service", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
		{"post-sts-header-before", "POST", "https://example.amazonaws.com/", "", nil, token, "service", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
		{"IAM: ListUsers", "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "", map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, "", "iam", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
		{"S3: GetObject", "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "", map[string]string{"Range": "bytes=0-9", "X-Amz-Content-Sha256": emptyHash}, "", "s3", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequest(test.method, test.url, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range test.header {
				req.Header.Set(name, value)
			}
			id, secret, at := suiteKey, suiteSecret, suiteTime
			if test.service == "s3" {
				id, secret, at = s3Key, s3Secret, s3Time
			}
			when, err := time.Parse("20060102T150405Z", at)
			if err != nil {
				t.Fatal(err)
			}
			length := req.ContentLength
			if err := search.Sign(req, [3]string{id, secret, test.session}, "us-east-1", test.service, when); err != nil {
				t.Fatal(err)
			}
			_, got, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
			if got != test.want {
				t.Errorf("%s\nwant the signature %s", req.Header.Get("Authorization"), test.want)
			}
			if req.ContentLength != length {
				t.Errorf("the length became %d", req.ContentLength)
			}
		})
	}
}

// awsEnvironment has the AWS SDK find what this function is given, and nothing of this machine.
func awsEnvironment(t *testing.T, config string) {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(folder, "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

var userKeys = testenv.AWSKeys{ID: "AKIDTEST", Secret: "aws-s3cret", Region: "eu-west-1", Service: "es"}

// everything uses each kind of request that there is: a body that is made for it, one of documents
// where they are, compressed and not, and none.
func everything(t *testing.T, s *testenv.SearchServer, c *search.Client) {
	t.Helper()
	ctx := searchtest.Within(t, time.Minute)
	physical, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
	for _, compression := range []search.Compression{search.CompressNever, search.CompressGzip} {
		ops := searchtest.Products(index, 1000)
		ops[0].Body = []byte(`{"id":1,"title":"` + strings.Repeat("long ", 400_000) + `"}`)
		ops[1].ID, ops[1].Routing = "ä/b c+d", "x y"
		w := searchtest.NewWriter(t, c, search.BulkOptions{Requests: 2, Documents: 400, Compression: compression})
		if err := w.Write(ctx, ops); err != nil {
			t.Fatal(err)
		}
		w.WantRefused(t)
	}
	if n := len(s.Documents(t, index)); n != 1000 {
		t.Errorf("%d documents are stored", n)
	}
	if err := c.PutSettings(ctx, physical, map[string]any{"index.refresh_interval": "7s"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, physical, []search.Listed{{ID: "ä/b c+d", Routing: "x y"}}); err != nil {
		t.Error(err)
	}
	if n, err := c.Count(ctx, index); err != nil || n != 1000 {
		t.Errorf("%d documents are counted: %v", n, err)
	}
}

// Requests of every kind come through a server that verifies their signatures, for both services;
// one with another secret, for another region, or without credentials does not.
func TestSigned(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		awsEnvironment(t, "")
		g := testenv.NewGateway(t, s.URL, testenv.GatewayOptions{AWS: &userKeys})
		o := search.Options{URLs: []string{g.URL}, CAFile: g.CAFile, AWS: &search.AWS{Region: "eu-west-1", Service: "es"}}
		refused := func(what, text string) {
			t.Helper()
			failing := o
			failing.Logger, failing.StartTimeout = searchtest.Logger(t), time.Second
			_, err := search.Connect(searchtest.Within(t, time.Minute), failing)
			if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v; want it to say %q, and no secret", what, err, text)
			}
		}
		refused("no credentials", "search.aws.role")
		t.Setenv("AWS_ACCESS_KEY_ID", userKeys.ID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "another s3cret")
		refused("another secret", "es:ESHttp*")
		t.Setenv("AWS_SECRET_ACCESS_KEY", userKeys.Secret)
		o.AWS = &search.AWS{Region: "eu-west-2", Service: "es"}
		refused("another region", "security token")
		o.AWS = &search.AWS{Region: "eu-west-1", Service: "es"}
		everything(t, s, searchtest.ConnectWith(t, o))
		o.AWS = &search.AWS{Region: "eu-west-1", Service: search.ServiceAOSS}
		refused("OpenSearch Serverless", "scroll")
	})
}

// Credentials that end are asked for again, while the process runs; the keys of a role are got by
// those that were found.
func TestCredentialsAreRenewed(t *testing.T) {
	var mu sync.Mutex
	assumed := testenv.AWSKeys{ID: "ASIAROLE1", Secret: "r0le-s3cret", Session: "session-1", Region: "eu-west-1", Service: "es"}
	var asked []string
	// What of STS is used: one call, and its answer.
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.FormValue("Action")+" "+r.FormValue("RoleArn")+" "+strings.Split(r.Header.Get("Authorization"), "/")[0])
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
			<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>
			</Credentials></AssumeRoleResult></AssumeRoleResponse>`, assumed.ID, assumed.Secret, assumed.Session, time.Now().Add(30*time.Second).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	awsEnvironment(t, "")
	t.Setenv("AWS_ACCESS_KEY_ID", userKeys.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", userKeys.Secret)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	s := httptest.NewServer(rootPage(200, elasticsearchPage))
	t.Cleanup(s.Close)
	g := testenv.NewGateway(t, s.URL, testenv.GatewayOptions{AWS: &assumed})
	const role = "arn:aws:iam::123456789012:role/search"
	c := searchtest.ConnectWith(t, search.Options{URLs: []string{g.URL}, CAFile: g.CAFile, AWS: &search.AWS{Region: "eu-west-1", Service: "es", Role: role}})
	mu.Lock()
	assumed.ID, assumed.Secret, assumed.Session = "ASIAROLE2", "an0ther-s3cret", "session-2"
	g.Renew(assumed)
	if want := "AssumeRole " + role + " AWS4-HMAC-SHA256 Credential=AKIDTEST"; asked[0] != want {
		t.Errorf("STS was asked for %q, want %q", asked[0], want)
	}
	mu.Unlock()
	if err := c.Ping(searchtest.Within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
	if refusals := g.Refusals(); len(refusals) > 0 {
		t.Errorf("refused: %q", refusals)
	}
}

// The documents of a request that is signed are hashed where they are.
func TestHashingCopiesNothing(t *testing.T) {
	body := `{"title":"` + strings.Repeat("x", 32<<20) + `"}`
	ops := []dbsync.Operation{searchtest.Store("i", "1", 1, body), searchtest.Remove("i", "2", 2), searchtest.Store("i", "3", 3, `{}`)}
	line := func(kind, id string, commit pglogrepl.LSN) string {
		v, err := search.VersionOf(dbsync.Operation{Kind: map[string]dbsync.Kind{"delete": dbsync.Delete}[kind], Version: commit * searchtest.CommitStep})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"%s":{"_id":"%s","version":%d,"version_type":"external_gte"}}`+"\n", kind, id, v)
	}
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(line("index", "1", 1)+body+"\n"+line("delete", "2", 2)+line("index", "3", 3)+"{}\n")))
	got, allocated, err := search.HashBulk(ops)
	if err != nil || got != want {
		t.Errorf("the hash is %s, want %s: %v", got, want, err)
	}
	if allocated > 1<<20 {
		t.Errorf("%d bytes were allocated to hash a document of 32 MiB", allocated)
	}
}
