package draft

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A drafter writes one file.
type drafter struct {
	*survey
	b       strings.Builder
	indices int
	refused mapping.Problems // of tables without an index, with what fixes them
	leftOut int              // the number of those tables
}

const (
	maxFields  = 1000 // that the servers take in an index unless told otherwise
	maxListed  = 60   // columns that a person still looks through
	maxRemark  = 100  // characters of a comment in the database that is worth a line
	maxRemarks = 20   // such lines for one table
	commentAt  = 34   // column of the comment beside the name of an index
)

// SchemaFile is where editors look for the JSON Schema of a drafted file, beside it: the first line of the
// file says so to those with yaml-language-server.
const SchemaFile = "tidemark.schema.json"

func (d *drafter) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

// file writes the whole file.
func (d *drafter) file(o Options, selected []catalog.TableName) {
	d.printf(`# yaml-language-server: $schema=`+SchemaFile+`
## The tables of database %s, for Tidemark to keep in search indices; drafted by tidemark init.
## tidemark check holds this file against database and cluster, config.example.yaml shows all that can be in it.
##
## What is behind one # is a proposal, but for the first line: take the # away to have it. Remarks are behind ##. A
## statement in one has to be run in Postgres before the proposal below it. REPLICA IDENTITY FULL: Postgres logs old
## rows as a whole.

postgres:
`, remark(d.database))
	switch {
	case o.Variable != "":
		d.printf("  url: ${%s}\n", o.Variable)
	case o.URL != "":
		d.printf("  url: %s\n", scalar(o.URL))
	default:
		d.printf("  ## PGHOST, PGPORT, PGDATABASE, PGUSER and their like say where it is.\n  # url: ${DATABASE_URL}\n")
	}
	if slot := d.slotName(); slot != "" {
		d.printf("  slot: %s  # %s is another database's on this server\n", slot, mapping.DefaultSlot)
	}
	d.printf("\nsearch:\n  urls: [%s]\n", strings.Join(scalars(o.SearchURLs), ", "))
	if o.SearchUser != "" {
		d.printf("  user: %s\n  password: ${SEARCH_PASSWORD}\n", scalar(o.SearchUser))
	} else {
		d.printf("  # user: elastic\n  # password: ${SEARCH_PASSWORD}\n")
	}
	d.printf("\nindices:\n")
	taken := make(map[string]bool)
	for _, name := range selected {
		d.index(name, taken)
	}
	var links []string
	for _, name := range d.names {
		if d.pureLink(name) && !slices.Contains(selected, name) {
			links = append(links, remark(name.String()))
		}
	}
	if len(links) > 0 {
		d.printf("\n%s\n", flow("## Only link other tables, and have no index of their own: ", "##   ", "", links, ""))
	}
	if len(d.refused) > 0 {
		d.printf("\n## Have no index as they are:\n")
	}
	for _, p := range d.refused {
		d.printf("##   %s\n", remark(p.Text))
		for i, line := range strings.Split(p.Hint, "\n") {
			d.printf("##     %s%s\n", []string{"hint: ", "      "}[min(i, 1)], strings.TrimRight(remarkLine(line), " "))
		}
	}
}

// remarkLine is remark that keeps the spaces at the beginning.
func remarkLine(line string) string {
	trimmed := strings.TrimLeft(line, " ")
	return line[:len(line)-len(trimmed)] + remark(trimmed)
}

// refuse notes why a table has no index.
func (d *drafter) refuse(name catalog.TableName, problems ...mapping.Problem) {
	d.leftOut++
	for _, p := range problems {
		text := reason(p)
		if !strings.Contains(text, name.String()) {
			text = fmt.Sprintf("table %s: %s", name, text)
		}
		d.refused = append(d.refused, mapping.Problem{File: "database " + d.database, Text: text, Hint: p.Hint})
	}
}

// index writes the index of one table, or notes why there is none.
func (d *drafter) index(name catalog.TableName, taken map[string]bool) {
	t := d.tables[name]
	if t == nil {
		if role := catalog.QuoteIdent(d.role); !d.facts[name].readable {
			table := catalog.QuoteIdent(name.Schema) + "." + catalog.QuoteIdent(name.Name)
			d.refuse(name, mapping.Problem{Text: fmt.Sprintf("role %s may not read table %s", d.role, name),
				Hint: fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT ON %s TO %s;", catalog.QuoteIdent(name.Schema), role, table, role)})
		}
		return
	}
	names := make(map[string]bool) // of fields
	for _, c := range t.Columns {
		names[c.Name] = true
	}
	fields := fieldLines(t, names)
	head, err := d.head(t, fields)
	if problems, ok := errors.AsType[mapping.Problems](err); ok {
		d.refuse(name, problems...)
		return
	}
	head = append(head, fields...)
	proposed, more := d.includes(t, head, names)

	ix := indexName(name, taken)
	taken[ix] = true
	rows := "number of rows not known (ANALYZE tells)"
	if t.EstimatedRows >= 0 {
		rows = fmt.Sprintf("about %d rows", t.EstimatedRows)
	}
	if d.indices++; d.indices > 1 {
		d.b.WriteByte('\n')
	}
	if text := remark(d.facts[name].comment); text != "" && utf8.RuneCountInString(text) <= maxRemark {
		d.printf("  ## %s\n", text)
	}
	if text := mapping.Unfollowed(t); text != "" {
		d.printf("  ## %s\n", remark(text))
	}
	d.printf("  %s:%s# %s\n", key(ix), strings.Repeat(" ", max(1, commentAt-3-utf8.RuneCountInString(key(ix)))), rows)
	for _, line := range head {
		d.printf("    %s\n", line)
	}
	if names := columnNames(t); len(fields) == 0 && len(names) <= maxListed {
		d.printf("%s\n", flow("    # fields: ", "    #   ", "[", scalars(names), "]"))
	}
	d.columnRemarks(t)
	if n := d.fieldCount(head, proposed); n > maxFields {
		d.printf("    settings: {mapping.total_fields.limit: %d}\n", (n/1000+1)*1000)
	}
	d.includeLines(proposed, more)
}

// head writes the table and what its _id is made of. fields are the lines of fieldLines.
func (d *drafter) head(t *catalog.Table, fields []string) ([]string, error) {
	head := []string{"table: " + tableText(t.TableName())}
	_, err := d.tryOut(slices.Concat(head, fields)...)
	if err == nil || len(t.PrimaryKey) > 0 {
		return head, err
	}
	for _, columns := range t.Unique {
		with := append(head, "id: ["+strings.Join(scalars(columns), ", ")+"]")
		if _, err := d.tryOut(slices.Concat(with, fields)...); err == nil {
			return with, nil
		}
	}
	return nil, err
}

// fieldLines writes what differs from all columns under their own names: names that
// cannot be, and secrets. names are those of columns; new ones are added.
func fieldLines(t *catalog.Table, names map[string]bool) []string {
	var lines []string
	for _, c := range t.Columns {
		switch {
		case !fitsField(c.Name):
			name := fieldName(c.Name, func(s string) bool { return names[s] })
			names[name] = true
			lines = append(lines, fmt.Sprintf("  %s: {column: %s}", key(name), scalar(c.Name)))
		case secrets.MatchString(c.Name) && !slices.Contains(t.PrimaryKey, c.Name):
			lines = append(lines, fmt.Sprintf("  %s: false  # looks like a secret", key(c.Name)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return append([]string{"fields:"}, lines...)
}

// columnNames returns the columns that are fields unless the file says otherwise.
func columnNames(t *catalog.Table) []string {
	s := new(mapping.Shape)
	var names []string
	for _, f := range s.DocumentFields(t) {
		names = append(names, f.Name)
	}
	return names
}

// columnRemarks writes the comments that columns have in the database.
func (d *drafter) columnRemarks(t *catalog.Table) {
	n := 0
	for _, c := range t.Columns {
		text := remark(d.facts[t.TableName()].columns[c.Name])
		if text == "" || utf8.RuneCountInString(text) > maxRemark || n == maxRemarks {
			continue
		}
		n++
		d.printf("    ## %s: %s\n", remark(c.Name), text)
	}
}

// includeLines writes includes: those that are had at once, and then those behind #.
func (d *drafter) includeLines(proposed []*include, more int) {
	pad, active := 0, 0
	for _, in := range proposed {
		if n := len(key(in.name)); n <= 24 {
			pad = max(pad, n)
		}
		if len(in.before) == 0 {
			active++
		}
	}
	if len(proposed) > 0 {
		d.printf("    %sinclude:\n", map[bool]string{true: "# "}[active == 0])
	}
	for _, in := range proposed {
		if len(in.before) == 0 {
			d.remarks("      ", in)
			d.printf("%s\n", in.text("      ", "        ", pad))
		}
	}
	behind := "      # "
	if active == 0 {
		behind = "    #   "
	}
	for _, in := range proposed {
		if len(in.before) > 0 {
			d.remarks(strings.TrimSuffix(behind, "# "), in)
			d.printf("%s\n", in.text(behind, behind+"  ", pad))
		}
	}
	if more > 0 {
		d.printf("    ## %d more tables refer to this one\n", more)
	}
}

// remarks writes the statements that an include needs, or is cheaper with.
func (d *drafter) remarks(indent string, in *include) {
	for _, sql := range in.before {
		d.printf("%s## %s\n", indent, statement(sql))
	}
	for _, sql := range in.faster {
		d.printf("%s## changes of %s cost less with: %s\n", indent, remark(in.name), statement(sql))
	}
}

// fieldCount returns the number of fields that the index has with all includes.
func (d *drafter) fieldCount(head []string, proposed []*include) int {
	lines := head[:len(head):len(head)]
	if len(proposed) > 0 {
		lines = append(lines, "include:")
		for _, in := range proposed {
			lines = append(lines, in.text("  ", "    ", 0))
		}
	}
	config, _ := d.tryOut(lines...)
	if config == nil {
		return 0
	}
	body, err := config.Indices[0].Body(d.tables)
	if err != nil {
		return 0
	}
	return strings.Count(string(body), `"type":`) + strings.Count(string(body), `"properties":`)
}

// tryOut holds an index of these lines against the catalog. Without one of them, the
// config is returned beside the error.
func (d *drafter) tryOut(lines ...string) (*mapping.Config, error) {
	text := "search: {urls: [http://localhost:9200]}\nindices:\n  x:\n    " + strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n    ") + "\n"
	config, err := mapping.Parse("draft", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		return nil, err
	}
	if problems := config.Check(d.tables); len(problems) > 0 {
		return config, problems
	}
	return config, nil
}

var ofKey = regexp.MustCompile(`^indices\.x[^ ]*: `)

// reason returns the text of a problem without the key of the file that tryOut made up.
func reason(p mapping.Problem) string { return ofKey.ReplaceAllString(p.Text, "") }
