package catalog

import (
	"fmt"
	"strings"
)

// FirstUserOID is the first one that Postgres gives to what is not its own.
const FirstUserOID = 16384

// Operator returns how two values of the type are compared in SQL: by the operator that the
// type's indices go by. Of a type of an extension that is one of the extension's schema,
// which need not be in the session's search_path; Postgres would then take the operator of
// a type that it can be cast to, citext to text, which orders rows in another way.
func (t *Type) Operator(name string) string {
	root := t.Root()
	if root.Kind != KindBase || root.OID < FirstUserOID {
		return name // all others compare by operators for any of their kind
	}
	return "OPERATOR(" + SchemaOf(root.Name) + "." + name + ")"
}

// SchemaOf returns the schema of a qualified name, quoted as it is there.
func SchemaOf(name string) string {
	quoted := false
	for i := range len(name) {
		switch {
		case name[i] == '"':
			quoted = !quoted
		case name[i] == '.' && !quoted:
			return name[:i]
		}
	}
	return "pg_catalog"
}

// Equal returns the condition that two columns, of which each is given by a reference and
// its type, have the same value.
func Equal(a string, at *Type, b string, bt *Type) string {
	operator := "="
	if at.Root().OID == bt.Root().OID {
		operator = at.Operator("=")
	}
	return a + " " + operator + " " + b
}

// SQL returns the table's name for a statement, quoted.
func (t *Table) SQL() string { return QuoteIdent(t.Schema) + "." + QuoteIdent(t.Name) }

// From returns what a select takes rows of the table from: without those of the tables that
// inherit from it, unless they count as its own; a partitioned one has those of its partitions.
func (t *Table) From() string {
	if t.Partitioned || t.WithChildren {
		return t.SQL()
	}
	return "ONLY " + t.SQL()
}

// ColumnRef returns the reference to a column of the table that alias stands for.
func ColumnRef(alias, name string) string { return alias + "." + QuoteIdent(name) }

// After returns the condition for the rows whose key comes after the one in the parameters,
// of which the first one is $param. alias is that of the table in the statement. They are values
// of the type below a domain, whose constraints that are NOT VALID may refuse what is there.
func (t *Table) After(alias string, key []string, param int) string {
	return t.compareKey(alias, key, param, ">", false)
}

// UpTo returns the condition for the rows whose key does not come after the one in the
// parameters, as [Table.After] takes them: both together take the scan of an index from one key
// to the other, and no row is on both sides of a key.
func (t *Table) UpTo(alias string, key []string, param int) string {
	return t.compareKey(alias, key, param, "<", true)
}

// compareKey returns the condition for the rows whose key is beyond the one in the parameters,
// in the direction of the operator, or has equal values.
func (t *Table) compareKey(alias string, key []string, param int, beyond string, orEqual bool) string {
	names, values, types := make([]string, len(key)), make([]string, len(key)), make([]*Type, len(key))
	end := beyond
	if orEqual {
		end += "="
	}
	plain := true
	for i, c := range key {
		types[i] = t.Column(c).Type
		names[i], values[i] = ColumnRef(alias, c), fmt.Sprintf("$%d::%s", param+i, types[i].Root().Name)
		plain = plain && types[i].Operator(beyond) == beyond
	}
	if plain {
		return fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), end, strings.Join(values, ", "))
	}
	// The same, with an operator of its own for each column. The index takes the scan to
	// the first row that has the first column's value, and not further.
	compare := func(i int, operator string) string {
		return fmt.Sprintf("%s %s %s", names[i], types[i].Operator(operator), values[i])
	}
	last := len(key) - 1
	condition := compare(last, end)
	for i := last - 1; i >= 0; i-- {
		condition = fmt.Sprintf("%s AND (%s OR %s)", compare(i, beyond+"="), compare(i, beyond), condition)
	}
	return condition
}
