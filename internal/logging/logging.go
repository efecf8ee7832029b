// Package logging makes the logger of the command.
//
// Secrets must not be passed to a logger at all. This package is the second line of
// defence: an attribute whose name speaks of a secret, a group of such a name, and the
// user part of a URL are masked wherever they turn up.
//
// Nor do values of rows come into a log. An error shows what [dbsync.WithoutValues] leaves of it;
// in texts, what servers quote of values is cut off.
package logging

import (
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"tidemark/dbsync"
)

// mask is what is written for a secret.
const mask = "[masked]"

// New returns a logger that writes the records from level up to w: as text for people if w
// is a terminal, as one JSON object a line otherwise. Durations are text in both ("1.5s").
func New(w io.Writer, terminal bool, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: replace}
	if terminal {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// Also returns a logger that writes what log does, and the records from the level info up to w as
// well, as one JSON object a line, masked alike.
func Also(log *slog.Logger, w io.Writer) *slog.Logger {
	return slog.New(slog.NewMultiHandler(log.Handler(), New(w, false, slog.LevelInfo).Handler()))
}

// secretNames are parts of the names of attributes that hold secrets, in lower case and
// without separators.
var secretNames = []string{
	"password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey",
	"authorization", "cookie", "credential", "connstr", "connectionstring", "dsn",
}

var separators = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

func isSecret(name string) bool {
	name = separators.Replace(strings.ToLower(name))
	for _, secret := range secretNames {
		if strings.Contains(name, secret) {
			return true
		}
	}
	return false
}

// userInfo finds the password of a URL within any text. One that was not escaped may hold
// any character but white space, so too much is masked rather than too little.
var userInfo = regexp.MustCompile(`(://[^\s/:@]*):\S*@`)

// keywordPassword finds the password of a connection string of keywords and values.
var keywordPassword = regexp.MustCompile(`(?i)\b((?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s'&"]+)`)

func withoutSecrets(text string) string {
	if strings.Contains(text, "://") {
		text = userInfo.ReplaceAllString(text, "${1}:"+mask+"@")
	}
	if strings.Contains(text, "=") {
		text = keywordPassword.ReplaceAllString(text, "${1}"+mask)
	}
	return text
}

// quotes finds in any text where servers are known to quote values.
var quotes = regexp.MustCompile(`(?i)(Preview of field's value:|For input string:|Key \([^)]*\)=|Failing row contains|invalid input (?:syntax|value) for [^:]*:|could not parse (?:input|date field)|failed to parse (?:date field|value)|Unrecognized token)[\s\S]*`)

// withoutQuotes cuts off a text where a server quotes a value: nobody knows where the value ends.
func withoutQuotes(text string) string {
	return quotes.ReplaceAllString(text, "$1 [value withheld]")
}

// masked returns a text as the log would have it: without passwords, and without values of rows that
// servers quote.
func masked(text string) string { return withoutQuotes(withoutSecrets(text)) }

// replace is called for every attribute that is not a group, the message among them.
func replace(groups []string, a slog.Attr) slog.Attr {
	if isSecret(a.Key) {
		return slog.String(a.Key, mask)
	}
	if slices.ContainsFunc(groups, isSecret) {
		return slog.String(a.Key, mask)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(masked(a.Value.String()))
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(masked(dbsync.WithoutValues(v)))
		case *url.URL:
			if v != nil {
				a.Value = slog.StringValue(v.Redacted())
			}
		case []string:
			texts := make([]string, len(v))
			for i, text := range v {
				texts[i] = withoutSecrets(text)
			}
			a.Value = slog.AnyValue(texts)
		}
	}
	return a
}
