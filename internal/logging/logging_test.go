package logging

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
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
