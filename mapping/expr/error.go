package expr

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/file"

	"tidemark/mapping/catalog"
	"tidemark/mapping/near"
)

// An Error says what is wrong with the text of an expression.
type Error struct {
	Text string // one line, with the place
	Hint string // what to write instead, or empty
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + ": " + e.Hint
}

// shaped makes an [*Error] of an error of expr-lang.
func shaped(err error, t *catalog.Table) error {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return &Error{Text: oneLine(err.Error())}
	}
	if name, ok := strings.CutPrefix(fe.Message, "unknown name "); ok {
		return &Error{fmt.Sprintf("table %s has no column %s %s", t.TableName(), name, place(fe)), near.Column(t, name)}
	}
	return &Error{Text: oneLine(fe.Message) + " " + place(fe)}
}

// place says where in the text an error is.
func place(e *file.Error) string {
	if e.Line > 1 {
		return fmt.Sprintf("(line %d, character %d)", e.Line, e.Column+1)
	}
	return fmt.Sprintf("(character %d)", e.Column+1)
}

// oneLine returns the beginning of a message, which may have many lines, in the
// words of expressions.
func oneLine(message string) string {
	message, _, _ = strings.Cut(strings.TrimSpace(message), "\n")
	message = strings.NewReplacer("interface {}", "any", "runtime error: ", "", "\r", " ").Replace(message)
	return message[:min(len(message), maxMessage)]
}

// typeName names a type as docs/expressions.md does.
func typeName(n nature.Nature) string {
	switch {
	case n.Nil:
		return "nil"
	case n.Type == nil || n.Kind == reflect.Interface:
		return "of a type that only a row tells"
	case n.IsFloat:
		return "float"
	case n.IsInteger:
		return "int"
	case n.IsTime():
		return "a date"
	case n.IsDuration():
		return "a duration"
	case n.IsArray():
		return "an array"
	case n.IsMap():
		return "an object"
	}
	return n.Kind.String()
}

// runError makes one line of an error of the VM, which shows the expression.
func runError(err error) error {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return err
	}
	return &RunError{Text: strings.ToValidUTF8(oneLine(fe.Message), ""), Place: place(fe)}
}

// A RunError says what an expression could not do with the values of a row.
type RunError struct{ Text, Place string }

func (e *RunError) Error() string { return e.Text + " " + e.Place }

// divideByZero is what the VM says of one, with no value in it.
const divideByZero = "integer divide by zero"

// WithoutValues is the error for logs: its text may quote a value.
func (e *RunError) WithoutValues() string {
	if e.Text == divideByZero {
		return e.Error()
	}
	return "the expression cannot be evaluated for a row " + e.Place
}
