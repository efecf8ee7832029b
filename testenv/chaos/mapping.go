package main

import (
	"fmt"
	"os"
	"strings"

	"tidemark/testenv"
)

// An index is one of the mapping, with the forms that an edited mapping gives it.
type index struct {
	name, table string
	variants    []variant
}

// A variant is one form of an index.
type variant struct {
	yaml    string // of the index, in one line and without the table
	options []testenv.CheckOption
}

const itemsQuery = `SELECT id, tenant, json_build_object('id', id, 'tenant', tenant, 'name', name, 'qty', qty, 'price', price, 'body', body) FROM items WHERE qty % 7 <> 0`

// ordersQuery is what a document of orders has to be; %s is more of it.
const ordersQuery = `SELECT o.id, json_build_object('id', o.id, 'customer_id', o.customer_id, 'note', o.note,
	'customer', (SELECT json_build_object('id', c.id, 'name', c.name) FROM customers c WHERE c.id = o.customer_id),
	'lines', coalesce((SELECT json_agg(json_build_object('order_id', l.order_id, 'n', l.n, 'sku', l.sku, 'qty', l.qty) ORDER BY l.n) FROM lines l WHERE l.order_id = o.id), '[]')%s) FROM orders o`

const ordersInclude = `customer: {table: customers, on: {customer_id: id}}, lines: {table: lines, on: {id: order_id}, many: object, order_by: n}`

// indices are those of the mapping, whose first variants it begins with.
var indices = []index{
	{"items", "items", []variant{
		{`routing: tenant, settings: {number_of_shards: 3}`, []testenv.CheckOption{testenv.WithRouting("tenant")}},
		{`routing: tenant, settings: {number_of_shards: 3}, fields: {body: false}`, []testenv.CheckOption{testenv.WithRouting("tenant"), testenv.WithFields("body")}},
		{`routing: tenant, settings: {number_of_shards: 2}, where: "qty % 7 != 0"`, []testenv.CheckOption{testenv.WithRouting("tenant"), testenv.WithQuery(itemsQuery)}},
	}},
	{"orders", "orders", []variant{
		{`include: {` + ordersInclude + `}`, []testenv.CheckOption{testenv.WithQuery(fmt.Sprintf(ordersQuery, ""))}},
		{`include: {` + ordersInclude + `, line_count: {table: lines, on: {id: order_id}, aggregate: count}}`,
			[]testenv.CheckOption{testenv.WithQuery(fmt.Sprintf(ordersQuery, ", 'line_count', (SELECT count(*) FROM lines l WHERE l.order_id = o.id)"))}},
	}},
	{"events", "events", []variant{{``, nil}, {`fields: {at: false}`, []testenv.CheckOption{testenv.WithFields("at")}}}},
	// Columns come and go in things.
	{"things", "things", []variant{{`reindex: {chunk: 200}`, nil}, {`fields: {z: {type: keyword}}, reindex: {chunk: 100}`, nil}}},
	{"ledger", "ledger", []variant{{`reindex: {chunk: 2000}`, nil}, {`fields: {pad: false}, reindex: {chunk: 3000}`, []testenv.CheckOption{testenv.WithFields("pad")}}}},
	{markers, "markers", []variant{{``, nil}}},
}

// markers is the index of rows that the watch makes.
const markers = "markers"

// A mappingFile is what both instances are started with, each by way of its own links.
type mappingFile struct {
	slot    string
	variant map[string]int // of each index
}

// text returns the file for an instance that reaches the servers by these URLs, with a section of Kafka or "".
func (m *mappingFile) text(postgresURL, searchURL, kafka string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "postgres: {url: %q, slot: %s}\nsearch: {urls: [%q], bulk: {documents: 2000}}\nadmin: {listen: 127.0.0.1:0}\non_slot_lost: reindex\n%sverify: {rows_per_second: 100000}\nindexer: {fan_out: 8}\nindices:\n", postgresURL, m.slot, searchURL, kafka)
	for _, ix := range indices {
		more := ix.variants[m.variant[ix.name]].yaml
		if more != "" {
			more = ", " + more
		}
		fmt.Fprintf(&b, "  %s: {table: %s%s}\n", ix.name, ix.table, more)
	}
	return b.String()
}

// writeFile writes it in one step: a command that was just started may be reading it.
func writeFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
