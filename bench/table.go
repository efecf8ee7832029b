package main

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A table has a flat mapping: its documents are made of its rows alone. Its key is id.
type table struct {
	conn *pgx.Conn
	name string
	plan *mapping.Plan
	list string // select list, in the order that plan expects
	body []byte // for the creation of an index as the tool makes it
}

// loadTables asks the catalog for tables.
func loadTables(ctx context.Context, config *mapping.Config, names ...string) (catalog.Tables, error) {
	db, err := sql.Open("pgx", config.Postgres.ConnString())
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tables := make(catalog.Tables)
	for _, name := range names {
		t, err := catalog.LoadTable(ctx, db, "public", name)
		if err != nil {
			return nil, err
		}
		tables[t.TableName()] = t
	}
	return tables, nil
}

// openTable finds out what documents the rows of a table become by the first index of a mapping.
func openTable(ctx context.Context, conn *pgx.Conn, name string, config *mapping.Config) (*table, error) {
	tables, err := loadTables(ctx, config, name)
	if err != nil {
		return nil, err
	}
	ix := config.Indices[0]
	in := tables[ix.Sources[0].Table]
	selection, err := ix.Sources[0].Select(tables)
	if err != nil {
		return nil, err
	}
	// The size of a row that is too large is no column of the table, and no row here is.
	columns := slices.DeleteFunc(selection.Names, func(name string) bool { return in.Column(name) == nil })
	t := &table{conn: conn, name: name}
	if t.plan, err = mapping.Compile(ix.Sources[0], in, columns); err != nil {
		return nil, err
	}
	for i, c := range columns {
		if i > 0 {
			t.list += ", "
		}
		t.list += name + "." + catalog.QuoteIdent(c)
	}
	t.body, err = ix.Body(tables)
	return t, err
}

// A document is what a row becomes.
type document struct {
	id   string
	body []byte // valid until the next one
}

// documents calls f with what a query's rows, which have t.list, become.
func (t *table) documents(ctx context.Context, f func(document) error, query string, args ...any) error {
	rows, err := t.conn.Query(ctx, query, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tuple pglogrepl.TupleData
	var body []byte
	for rows.Next() {
		values := rows.RawValues()
		for len(tuple.Columns) < len(values) {
			tuple.Columns = append(tuple.Columns, new(pglogrepl.TupleDataColumn))
		}
		for i, v := range values {
			*tuple.Columns[i] = pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Data: v}
			if v == nil {
				tuple.Columns[i].DataType = pglogrepl.TupleDataTypeNull
			}
		}
		id, ok := t.plan.ID(&tuple)
		if !ok {
			return errors.New("a row has no key")
		}
		if body, err = t.plan.AppendDocument(body[:0], &tuple); err != nil {
			return err
		}
		if err := f(document{id, body}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// selection is the query that gives the rows of all documents.
func (t *table) selection() string { return "select " + t.list + " from " + t.name }

// all calls f with the document of every row of the table.
func (t *table) all(ctx context.Context, f func(document) error) error {
	return t.documents(ctx, f, t.selection()+" order by id")
}
