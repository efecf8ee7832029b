package logging

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/indexer/search"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name     string
		terminal bool
		want     string
	}{
		{"terminal", true, `level=INFO msg="batch stored" documents=3 took=1.5s` + "\n"},
		{"elsewhere", false, `"level":"INFO","msg":"batch stored","documents":3,"took":"1.5s"}` + "\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			logger := New(&out, test.terminal, slog.LevelInfo)
			logger.Debug("not this")
			logger.Info("batch stored", "documents", 3, "took", 1500*time.Millisecond)
			if got := out.String(); !strings.HasSuffix(got, test.want) || strings.Contains(got, "not this") {
				t.Errorf("got %s, want it to end in %s", got, test.want)
			}
		})
	}
}

func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2"
	u := &url.URL{Scheme: "https", User: url.UserPassword("elastic", secret), Host: "es:9200"}
	attrs := []slog.Attr{
		slog.String("password", secret),
		slog.String("Postgres-Password", secret),
		slog.String("api_key", secret),
		slog.String("apiKey", secret),
		slog.String("client.secret", secret),
		slog.Any("authorization", []byte(secret)),
		slog.String("conn_str", secret),
		slog.Group("credentials", slog.String("user", "a"), slog.String("value", secret)),
		slog.Group("search", slog.String("token", secret)),
		slog.String("url", u.String()),
		slog.Any("url", u),
		slog.Any("urls", []string{"https://es1:9200", u.String()}),
		slog.String("address", "postgres://app:a@b/"+secret+"@db/shop"),
		slog.Any("error", errors.New("connect to "+u.String()+": refused")),
		slog.Any("error", errors.New("cannot parse host=db password="+secret+" user=app")),
		slog.Any("error", errors.New("cannot parse host=db password = 'a \\' "+secret+"' user=app")),
		slog.String("query", "sslpassword="+secret+"&user=app"),
	}
	for _, terminal := range []bool{true, false} {
		for _, attr := range attrs {
			var out strings.Builder
			New(&out, terminal, slog.LevelInfo).LogAttrs(t.Context(), slog.LevelInfo, "connect to "+u.String(), attr)
			if strings.Contains(out.String(), secret) {
				t.Errorf("%s", out.String())
			}
		}
	}
}

func TestHarmlessTextStays(t *testing.T) {
	for _, text := range []string{
		"https://es:9200/products", "https://elastic@es:9200", "postgres:///shop", "a:b@c", "https://[::1]:9200",
		"see https://example.org/a:b for x@y", "password authentication failed", "n=1 of https://es:9200",
	} {
		if got := withoutSecrets(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// What servers say of the values of rows is not logged, in errors however they are wrapped and in
// texts.
func TestValuesAreWithheld(t *testing.T) {
	const canary = "S3cr3tCanary"
	refused := &search.DocError{Index: "i", ID: "7", Status: 400, Type: "mapper_parsing_exception", Reason: "failed to parse field [n] of type [integer]. Preview of field's value: '" + canary + "'"}
	server := &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: `invalid input syntax for type integer: "` + canary + `"`}
	for _, attr := range []slog.Attr{
		slog.Any("reason", refused),
		slog.Any("error", fmt.Errorf("2 documents were refused, the first: %w: %w", refused, errors.New("stopped"))),
		slog.Any("error", errors.Join(errors.New("first"), fmt.Errorf("read: %w", server))),
		slog.Group("batch", slog.Any("error", server)),
		slog.String("detail", server.Error()),
		slog.String("detail", refused.Error()),
		slog.String("detail", "ERROR: duplicate key; Key (email)=("+canary+") already exists."),
		slog.String("detail", "Failing row contains (1, "+canary+")."),
		slog.String("detail", `caused by: For input string: "`+canary+`"`),
		slog.Any("error", errors.New("made of text: "+server.Error())),
	} {
		for _, terminal := range []bool{true, false} {
			var out strings.Builder
			New(&out, terminal, slog.LevelDebug).LogAttrs(t.Context(), slog.LevelDebug, "message", attr)
			if strings.Contains(out.String(), canary) {
				t.Errorf("%s", out.String())
			}
		}
	}
}

// What is written a second time is masked as well, and has the records from info up, whatever the
// first one has.
func TestAlso(t *testing.T) {
	var first, second bytes.Buffer
	log := Also(New(&first, true, slog.LevelError), &second).With("password", "hunter2")
	log.Debug("one")
	log.Info("two", "url", "postgres://u:hunter2@db")
	if first.Len() > 0 {
		t.Errorf("the first has %s", first.String())
	}
	if got := second.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"msg":"two"`) || strings.Contains(got, "hunter2") {
		t.Errorf("the second has %s", got)
	}
}
