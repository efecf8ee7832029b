package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
)

// A TooLargeError reports a row whose document is larger than what is taken.
type TooLargeError struct {
	Bytes int // of the document, or of the values that it would be made of
	Max   int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the document would have %d bytes or more, and search.max_document_bytes is %d", e.Bytes, e.Max)
}

const (
	// smallValue is up to which size a value is not counted, if its type has none that are larger,
	// and up to which a column that where reads is selected of a row that is too large.
	smallValue = 64 << 10

	// maxRatio is how many times smaller a value may be where it is stored: lz4 has 255, pglz 91.
	maxRatio = 256
)

// sizeColumn is the column that has the size of a row that is too large.
const sizeColumn = "document_bytes"

// A sizeBound has a statement leave out the values of rows whose documents are too large, so that
// they never leave the server.
//
// The statement stands in another one, which adds up what the values of a row take, and in a third
// one, which has them or NULL. Nothing is read twice for that: octet_length of text and bytea takes
// the size from where the value is kept, without reading it; of what an include came to the size is
// at hand. Only of other types, such as jsonb, and of these only where they are so large that they
// might be too large once they are unpacked, is the text made once more to be measured.
//
// What is measured is the values as texts, for bytea as base64: what the document has, but for
// blanks in JSON and what has to be escaped.
type sizeBound struct {
	max     int
	name    string            // of the column that has the size, NULL where it is not too large
	sizes   []string          // expressions over the columns of d
	columns map[string]string // of those whose values are left out, the expression by which
	unclear []string          // conditions by which it is not known whether the row is a document
}

// newSizeBound returns the bound of rows of t, nil where no row can be too large.
func newSizeBound(s *Source, t *catalog.Table, names []string) *sizeBound {
	if s.Index == nil || s.Index.MaxDocumentBytes == 0 {
		return nil
	}
	b := &sizeBound{max: s.Index.MaxDocumentBytes, name: freeName(t, sizeColumn), columns: make(map[string]string)}
	key := s.KeyColumns(t)
	var where []string
	if s.Where != "" {
		if e, err := expr.CompileCondition(s.Where, t); err == nil { // Config.Check reports it
			where = e.Columns
		}
	}
	for _, name := range names {
		ref := "d." + catalog.QuoteIdent(name)
		column := t.Column(name)
		switch {
		case column == nil: // an include
			b.sizes = append(b.sizes, "pg_catalog.pg_column_size("+ref+")")
		case name == s.Routing || name == s.valueColumn() || slices.Contains(key, name):
			continue
		default:
			size := sizeOf(ref, column.Type, b.max)
			if size == "" {
				continue
			}
			b.sizes = append(b.sizes, size)
		}
		if slices.Contains(where, name) {
			b.columns[name] = fmt.Sprintf("CASE WHEN d.%s <= %d OR pg_catalog.pg_column_size(%s) <= %d THEN %s END", catalog.QuoteIdent(b.name), b.max, ref, smallValue, ref)
			b.unclear = append(b.unclear, fmt.Sprintf("pg_catalog.pg_column_size(%s) > %d", ref, smallValue))
		} else {
			b.columns[name] = fmt.Sprintf("CASE WHEN d.%s <= %d THEN %s END", catalog.QuoteIdent(b.name), b.max, ref)
		}
	}
	if len(b.sizes) == 0 {
		return nil
	}
	return b
}

// statement puts the statement around one that selects columns of these names, and more.
func (b *sizeBound) statement(inner string, names, more []string) string {
	size := "0::pg_catalog.int8"
	for _, s := range b.sizes {
		size += " + coalesce(" + s + ", 0)"
	}
	var list []string
	for _, name := range names {
		quoted := catalog.QuoteIdent(name)
		if name == b.name {
			of := "d." + quoted
			is := of
			if len(b.unclear) > 0 {
				is = "CASE WHEN " + strings.Join(b.unclear, " OR ") + " THEN -" + of + " ELSE " + of + " END"
			}
			list = append(list, fmt.Sprintf("CASE WHEN %s > %d THEN %s END AS %s", of, b.max, is, quoted))
		} else if cut := b.columns[name]; cut != "" {
			list = append(list, cut+" AS "+quoted)
		} else {
			list = append(list, "d."+quoted)
		}
	}
	for _, name := range more {
		list = append(list, "d."+catalog.QuoteIdent(name))
	}
	// OFFSET 0 keeps each of them from being put into the one around it, where its expressions
	// would be computed once for each use.
	return fmt.Sprintf("SELECT %s FROM (SELECT d.*, %s AS %s FROM (%s OFFSET 0) d OFFSET 0) d", strings.Join(list, ", "), size, catalog.QuoteIdent(b.name), inner)
}

// sizeOf returns the expression for about how many bytes a value takes in a document; "" where
// no value of the type is large.
func sizeOf(ref string, t *catalog.Type, most int) string {
	root := t.Root()
	if isSmall(root) {
		return ""
	}
	switch root.OID {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID:
		return "pg_catalog.octet_length(" + ref + ")"
	case pgtype.ByteaOID:
		return "pg_catalog.octet_length(" + ref + ")::pg_catalog.int8 * 4 / 3"
	}
	if root.IsPart("citext", "citext") { // which is stored as text
		return "pg_catalog.octet_length(" + ref + "::pg_catalog.text)"
	}
	return fmt.Sprintf("CASE WHEN pg_catalog.pg_column_size(%s) > %d THEN pg_catalog.octet_length(%s::pg_catalog.text) END", ref, most/maxRatio, ref)
}

// isSmall reports whether no value of a type has much more than smallValue.
func isSmall(t *catalog.Type) bool {
	switch t.Kind {
	case catalog.KindEnum:
		return true
	case catalog.KindRange:
		return t.Elem != nil && isSmall(t.Elem.Root())
	}
	switch t.OID {
	case pgtype.VarcharOID, pgtype.BPCharOID:
		const header = 4 // that a modifier counts
		return t.Modifier >= header && (int(t.Modifier)-header)*4 <= smallValue
	case pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID, pgtype.OIDOID, pgtype.XIDOID, pgtype.CIDOID,
		pgtype.NameOID, pgtype.QCharOID, pgtype.UUIDOID, pgtype.DateOID, pgtype.TimeOID, pgtype.TimetzOID, pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.IntervalOID,
		pgtype.InetOID, pgtype.CIDROID, pgtype.MacaddrOID, pgtype.Macaddr8OID, pgtype.PointOID, pgtype.LsegOID, pgtype.BoxOID, pgtype.CircleOID, pgtype.LineOID, pgtype.TIDOID, moneyOID:
		return true
	}
	return false
}

const moneyOID = 790

// freeName returns a name that no column of t has: this one, or a longer one.
func freeName(t *catalog.Table, name string) string {
	for t.Column(name) != nil {
		name += "_"
	}
	return name
}

// tooLarge returns what the statement says that selected a row of which it has left values out;
// nil: of this one it has not. unclear says that where reads what was left out.
func (p *Plan) tooLarge(row *pglogrepl.TupleData) (err *TooLargeError, unclear bool) {
	if p.size < 0 {
		return nil, false
	}
	text, _ := columnText(row, p.size)
	if text == nil {
		return nil, false
	}
	n, _ := strconv.Atoi(string(text)) // an int8, by the statement
	return &TooLargeError{Bytes: max(n, -n), Max: p.max}, n < 0
}
