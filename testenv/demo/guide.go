package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"text/template"
)

// mapping is the file that tidemark runs on. See config.example.yaml for every key.
var mapping = template.Must(template.New("mapping").Parse(`# The mapping of the demo's shop. Every key there is: config.example.yaml
postgres:
  url: {{.Database}}
search:
  urls: [{{.Search}}]
{{- if .Brokers}}
kafka:                              # run produces to a topic there, apply writes what is in it
  brokers: [{{.Brokers}}]
{{- end}}
admin:
  listen: {{.Admin}}                # metrics and health

indices:
  categories:
    table: categories

  products:                         # searchers use this name; it is an alias
    table: products
    fields:                         # what differs from: all columns under their own names
      title: {type: text, analyzer: english}
      cost: false                   # what we pay is nobody's business
      margin: {expr: float(price) - float(cost)}
    include:                        # rows of other tables inside
      category: {table: categories, on: {category_id: id}, fields: [name, slug]}
      review_count: {table: reviews, on: {id: product_id}, aggregate: count}
      reviews:
        table: reviews
        on: {id: product_id}
        many: object
        order_by: written_at desc
        limit: 20
        fields: [rating, title]
        include:
          by: {table: customers, on: {customer_id: id}, value: name}

  customers:
    table: customers
    fields:
      mail: {column: email}         # another name

  orders:
    table: orders
    routing: customer_id            # all orders of a customer on one shard

  reviews:
    table: reviews                  # its key has two columns, and so has the _id: 7|…
    fields:
      stars: {column: rating, type: byte}
    settings: {number_of_replicas: 0}
`))

// mappingValues are what differs in the file. Brokers is empty where operations do not go by Kafka.
type mappingValues struct{ Database, Search, Brokers, Admin string }

func (v mappingValues) file() ([]byte, error) {
	var b bytes.Buffer
	err := mapping.Execute(&b, v)
	return b.Bytes(), err
}

// The product that the demo itself leaves alone.
const yours = 1

// guide prints what to try.
func (d *demo) guide() {
	statement := fmt.Sprintf("update products set title = 'Hello from Postgres', price = price + 1 where id = %d", yours)
	psql := fmt.Sprintf("psql '%s' -c \"%s\"", d.url, statement)
	if _, err := exec.LookPath("psql"); err != nil {
		psql = fmt.Sprintf("go run ./testenv/demo -url '%s' -sql \"%s\"", d.url, statement)
	}
	d.out.plain(fmt.Sprintf(`
The shop is searchable, and changes all the time. Try in another terminal:

  search it
    curl '%[1]s/products/_search?q=description:perfect&sort=price:desc&size=3&pretty'

  change a row
    %[2]s

  and see its document, with category and reviews inside
    curl '%[1]s/products/_doc/%[3]d?pretty'

  how tidemark is doing
    %[4]s is its status page, for a browser
    curl %[4]s/readyz
    curl %[4]s/metrics

%[7]s  the mapping     %[5]s
  the database    %[6]s
  the search      %[1]s

Ctrl-C ends and removes everything.

`, d.search.URL, psql, yours, d.tidemark.admin, d.tidemark.mapping(), d.url, d.workerGuide()))
}

// workerGuide prints what there is to see of the workers, "" without -kafka.
func (d *demo) workerGuide() string {
	if d.kafka == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("  how the workers are doing, which write what tidemark produces to Kafka\n")
	for _, w := range d.workers {
		fmt.Fprintf(&b, "    %s is the page of %s, which has /readyz and /metrics, too\n", w.admin, w.name)
	}
	fmt.Fprintf(&b, `
  and what becomes of it when one is killed: the other takes over within seconds
    kill -9 %d

  what is in the topic, where there is kcat
    kcat -C -b %s -t tidemark -o -3 -e -f '%%k %%h %%s\n'

`, d.workers[0].PID(), strings.Join(d.kafka.Brokers(), ","))
	return b.String()
}
