package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// The table that is indexed. A row takes about 447 bytes in COPY's text form.
const createTable = `create table items (
	id          bigint primary key,
	sku         varchar(32) not null,
	title       text not null,
	description text not null,
	status      text not null,
	category    text,
	price       numeric(10,2) not null,
	stock       integer not null,
	rating      double precision,
	active      boolean not null,
	tags        text[] not null,
	attributes  jsonb not null,
	created_at  timestamptz not null,
	updated_at  timestamptz not null
)`

// words is a vocabulary of made-up words, some of which are much more frequent than
// others in what [text] makes of them, as in a language.
var words = func() []string {
	const consonants, vowels = "bcdfghklmnprstvz", "aeiou"
	rng := rand.New(rand.NewPCG(1, 1))
	all := make([]string, 5000)
	for i := range all {
		var b strings.Builder
		for range 2 + rng.IntN(3) {
			b.WriteByte(consonants[rng.IntN(len(consonants))])
			b.WriteByte(vowels[rng.IntN(len(vowels))])
		}
		all[i] = b.String()
	}
	return all
}()

func text(rng *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		f := rng.Float64()
		b.WriteString(words[int(f*f*float64(len(words)))])
	}
	return b.String()
}

var (
	statuses = []string{"active", "draft", "archived", "discontinued"}
	colours  = []string{"red", "green", "blue", "black", "white", "yellow"}
	epoch    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A row is one of the table. The same id and edition always give the same row.
type row struct {
	id                                        int64
	sku, title, description, status, category string
	price                                     string
	stock                                     int32
	rating                                    float64
	active                                    bool
	tags                                      []string
	attributes                                string
	created, updated                          time.Time
}

func newRow(id int64, edition int) row {
	rng := rand.New(rand.NewPCG(uint64(id), uint64(edition)))
	r := row{
		id: id, sku: fmt.Sprintf("SKU-%08d-%04X", id, rng.IntN(1<<16)),
		title: text(rng, 5), description: text(rng, 31),
		status: statuses[rng.IntN(len(statuses))], category: words[rng.IntN(40)],
		price: fmt.Sprintf("%d.%02d", rng.IntN(2000), rng.IntN(100)), stock: int32(rng.IntN(1000)),
		rating: float64(rng.IntN(50)) / 10, active: rng.IntN(5) > 0,
		created: epoch.Add(time.Duration(id) * 37 * time.Second),
	}
	for range 3 {
		r.tags = append(r.tags, words[rng.IntN(300)])
	}
	r.attributes = fmt.Sprintf(`{"color": %q, "weight_g": %d, "dimensions": [%d, %d, %d]}`,
		colours[rng.IntN(len(colours))], rng.IntN(5000), rng.IntN(100), rng.IntN(100), rng.IntN(100))
	r.updated = r.created.Add(time.Duration(rng.IntN(1e9)) * time.Microsecond)
	return r
}

// appendCopy appends the row as a line of COPY's text form.
func (r *row) appendCopy(dst []byte) []byte {
	return fmt.Appendf(dst, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%g\t%t\t{%s}\t%s\t%s\t%s\n",
		r.id, r.sku, r.title, r.description, r.status, r.category, r.price, r.stock, r.rating, r.active,
		strings.Join(r.tags, ","), r.attributes, r.created.Format(time.RFC3339Nano), r.updated.Format(time.RFC3339Nano))
}
