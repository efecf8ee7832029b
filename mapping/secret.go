package mapping

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a text that must not be shown: however it is printed, logged or
// marshalled, "***" comes out. The zero value holds nothing.
//
// The text is behind a pointer, so that a Secret in an unexported field is safe
// as well: fmt does not call methods there, and prints an address.
type Secret struct{ text *string }

// NewSecret hides text.
func NewSecret(text string) Secret { return Secret{&text} }

const hidden = "***"

// Reveal returns the text to the one place that needs it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text, or an empty one.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// Equal reports whether both hold the same text.
func (s Secret) Equal(t Secret) bool { return s.Reveal() == t.Reveal() }

func (s Secret) String() string               { return hidden }
func (s Secret) GoString() string             { return hidden }
func (s Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, hidden) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (s Secret) MarshalYAML() (any, error)    { return hidden, nil }
