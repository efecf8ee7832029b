package expr

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	exprcheck "github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/checker/nature"
	exprcompile "github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// Bounds of an expression and of its evaluation. What loops within loops cost
// is not bounded by them: the file that holds an expression is trusted.
const (
	maxExpression = 4096      // bytes of text
	maxMemory     = 1_000_000 // elements of arrays and objects that one evaluation makes
	maxMessage    = 300       // bytes of an error at run time, which may show values of the row
)

// An Expression is an expr-lang expression over the columns of a table,
// compiled and checked against their types; docs/expressions.md says what there
// is. Its value follows from those of the columns alone. It is not changed once
// it is compiled, so several goroutines may use it.
type Expression struct {
	Columns []string // those it reads, in the order of the table

	decoders []value.Decoder // of columns
	program  *vm.Program
	result   map[string]any // default field of the index
	pool     sync.Pool      // of *evaluation
}

// CompileCondition compiles an expression that must give a boolean. Its error
// is an [*Error].
func CompileCondition(text string, t *catalog.Table) (*Expression, error) {
	e, typ, err := compileText(text, t)
	if err != nil {
		return nil, err
	}
	if typ.Kind != reflect.Bool {
		hint := ""
		if typ.Type == nil && !typ.Nil {
			hint = "compare it with something: … == true"
		}
		return nil, &Error{fmt.Sprintf("a condition must be true or false, this is %s", typeName(typ)), hint}
	}
	return e, nil
}

// Compile compiles an expression that gives a value of a document.
// Its error is an [*Error].
func Compile(text string, t *catalog.Table) (*Expression, error) {
	e, typ, err := compileText(text, t)
	if err != nil {
		return nil, err
	}
	if e.result, err = fieldOf(typ); err != nil {
		return nil, err
	}
	return e, nil
}

// Field returns the field of the index that takes the results of an expression
// from [Compile] where the mapping names no other. Not to be changed.
func (e *Expression) Field() map[string]any { return e.result }

// Holds evaluates a condition for a row. values has the text of each of
// e.columns, nil for NULL; it is not kept. NULL is false, as in SQL.
func (e *Expression) Holds(values [][]byte) (bool, error) {
	value, err := e.evaluate(values)
	if err != nil {
		return false, err
	}
	holds, _ := value.(bool)
	return holds, nil
}

// Append appends the result for a row to dst as JSON, on one line. values is
// as for [Expression.Holds]. On an error dst is returned as it was: the row
// has no document.
func (e *Expression) Append(dst []byte, values [][]byte) ([]byte, error) {
	result, err := e.evaluate(values)
	if err != nil {
		return dst, err
	}
	out, err := value.Append(dst, result)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// An evaluation is what one goroutine needs to evaluate an expression. It keeps
// short values from row to row: many columns have few.
type evaluation struct {
	vm   vm.VM
	env  map[string]any
	kept []keptText // of the expression's columns
}

// A keptText is what the value in an evaluation's env was read from.
type keptText struct {
	text  [maxKept]byte
	len   int
	known bool
}

// maxKept is the length, in bytes, of the longest text that is kept. Longer
// ones rarely come twice.
const maxKept = 32

func (e *Expression) evaluate(values [][]byte) (any, error) {
	ev, _ := e.pool.Get().(*evaluation)
	if ev == nil {
		ev = &evaluation{
			vm:   vm.VM{MemoryBudget: maxMemory},
			env:  make(map[string]any, len(e.Columns)),
			kept: make([]keptText, len(e.Columns)),
		}
	}
	defer e.pool.Put(ev)
	for i, name := range e.Columns {
		text, kept := values[i], &ev.kept[i]
		if kept.known && text != nil && bytes.Equal(kept.text[:kept.len], text) {
			continue
		}
		kept.known = false
		if text == nil {
			ev.env[name] = nil
			continue
		}
		value, err := e.decoders[i](text)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", catalog.QuoteIfNeeded(name), err)
		}
		ev.env[name] = value
		if len(text) <= maxKept {
			kept.len, kept.known = copy(kept.text[:], text), true
		}
	}
	value, err := ev.vm.Run(e.program, ev.env)
	if err != nil {
		return nil, runError(err)
	}
	return value, nil
}

// compile parses, checks and compiles text, and gives the type of its result.
func compileText(text string, t *catalog.Table) (e *Expression, typ nature.Nature, err error) {
	defer func() {
		// Should the checker or the optimizer panic on a text that no one means,
		// then the text is what has to change, like with any other error.
		if r := recover(); r != nil {
			e, err = nil, &Error{Text: "the expression is beyond what can be checked: " + oneLine(fmt.Sprint(r))}
		}
	}()
	p, err := parseChecked(text, t)
	if err != nil {
		return nil, typ, err
	}
	typ = resultType(p.tree.Node, &p.config.NtCache)
	p.tree.Node, _ = new(nullRule).apply(p.tree.Node)
	if _, err := exprcheck.Check(p.tree, p.config); err != nil {
		return nil, typ, shaped(err, t)
	}
	if err := optimizer.Optimize(&p.tree.Node, p.config); err != nil {
		if fe := (*file.Error)(nil); errors.As(err, &fe) {
			err = fe.Bind(p.tree.Source)
		}
		return nil, typ, shaped(err, t)
	}
	e, err = p.compile()
	return e, typ, err
}

// A parsed expression is checked, but not compiled.
type parsed struct {
	tree   *parser.Tree
	config *conf.Config
	table  *catalog.Table
	reads  map[string]bool // columns
}

// parseChecked parses text and checks it against the columns of t.
func parseChecked(text string, t *catalog.Table) (*parsed, error) {
	if len(text) > maxExpression {
		return nil, &Error{Text: fmt.Sprintf("the expression has %d bytes, at most %d are possible", len(text), maxExpression)}
	}
	if strings.TrimSpace(text) == "" {
		return nil, &Error{Text: "the expression is empty"}
	}
	config := newConfig()
	// Parsed without the columns, so that none of them hides a function: the
	// parser takes date(x) for the function, the checker date alone for the column.
	tree, err := parser.ParseWithConfig(text, config)
	if err != nil {
		return nil, shaped(err, t)
	}
	for _, c := range t.Columns {
		config.Env.Fields[c.Name] = variableOf(c.Type).nature(&config.NtCache)
	}
	s := &scan{table: t, source: tree.Source, reads: make(map[string]bool)}
	if err := s.calls(&tree.Node); err != nil {
		return nil, err
	}
	if err := s.names(&tree.Node); err != nil {
		return nil, err
	}
	if _, err := exprcheck.Check(tree, config); err != nil {
		return nil, shaped(err, t)
	}
	if err := s.joins(&tree.Node, &config.NtCache); err != nil {
		return nil, err
	}
	return &parsed{tree, config, t, s.reads}, nil
}

func (p *parsed) compile() (*Expression, error) {
	program, err := exprcompile.Compile(p.tree, p.config)
	if err != nil {
		return nil, shaped(err, p.table)
	}
	e := &Expression{program: program}
	for _, c := range p.table.Columns {
		if p.reads[c.Name] {
			e.Columns = append(e.Columns, c.Name)
			e.decoders = append(e.decoders, variableOf(c.Type).read)
		}
	}
	return e, nil
}

// newConfig returns what the parser and the checker go by, without columns.
func newConfig() *conf.Config {
	c := conf.New(map[string]any{})
	c.MaxNodes = maxExpression
	for name := range noFunctions {
		c.Disabled[name] = true
	}
	for _, f := range ownFunctions {
		c.Disabled[f.Name] = true
		c.Functions[ownName(f.Name)] = f
	}
	for name := range c.Disabled {
		delete(c.Builtins, name)
	}
	return c
}
