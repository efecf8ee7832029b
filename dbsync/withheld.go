package dbsync

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// WithoutValues returns the text of an error without what it says of the values of rows: for logs,
// alarms and whatever else people read who may not read the tables. The error itself says all.
//
// An error that quotes values has a method WithoutValues() string, which returns its text without them;
// of what Postgres says, only that stays which is not made of values.
func WithoutValues(err error) string {
	text := err.Error()
	withhold(err, &text)
	return text
}

// withhold replaces in text what each error of the tree says that quotes values, the outer ones first.
func withhold(err error, text *string) {
	switch e := err.(type) {
	case *pgconn.PgError:
		said := withheldMessage(e.Message, e.Code, e.Routine)
		if said != e.Message {
			*text = strings.ReplaceAll(*text, e.Message, said)
		}
	case interface{ WithoutValues() string }:
		*text = strings.ReplaceAll(*text, err.Error(), e.WithoutValues())
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			withhold(inner, text)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			withhold(inner, text)
		}
	}
}

// withheldMessage returns of a message of Postgres what is not made of values.
func withheldMessage(message, code, routine string) string {
	const own = "(the message of a function, which may hold values, is left out)"
	if routine == "exec_stmt_raise" || len(code) != 5 { // RAISE of PL/pgSQL, with any code
		return own
	}
	switch code[:2] {
	case "22", // data exception: invalid input syntax for type integer: "…"
		"XX": // internal error, of extensions too
		return Beginning(message)
	case "01", "02", "03", "08", "0A", "0B", "0L", "0P", "20", "21", "23", "24", "25", "26", "27", "28", "2B", "2D", "34", "3B", "3D", "3F",
		"40", "42", "44", "53", "54", "55", "57", "58", "72", "F0":
		return message // names of tables, columns and the like, and no values: those are in the detail
	}
	return own
}

// quoteOrDigit is where a value may begin in a message of a server, in any language.
var quoteOrDigit = regexp.MustCompile(`["'«»„“”‘’‚‹›「『:\d]|\[\d+\]`)

// Beginning returns a message up to where a value may begin: a quotation mark, a colon, a digit.
func Beginning(message string) string {
	if at := quoteOrDigit.FindStringIndex(message); at != nil {
		return strings.TrimRight(message[:at[0]], " ") + " …"
	}
	if !utf8.ValidString(message) {
		return "…"
	}
	return message
}

// withholding is a handler whose records have errors without values.
type withholding struct{ slog.Handler }

func (h withholding) Handle(ctx context.Context, r slog.Record) error {
	safe := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(WithoutValues(err))
		}
		safe.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, safe)
}

func (h withholding) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withholding{h.Handler.WithAttrs(attrs)}
}

func (h withholding) WithGroup(name string) slog.Handler {
	return withholding{h.Handler.WithGroup(name)}
}
