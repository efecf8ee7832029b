package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// A column of a table of the manual has figures of these names, of which a series has one.
type column struct {
	title string
	build string // "": of the limits
	names []string
}

// The tables of the manual. A series has a row in those whose first column it has a figure for.
var matrices = [][]column{
	{
		{"whole run, /s", headName, []string{"whole run"}},
		{"plain load, /s", "", []string{"plain load"}},
		{"share of it", headName, []string{"whole run, share of the plain load"}},
		{"without start and end, /s", headName, []string{"filling alone", "following alone"}},
		{"COPY or draining, /s", "", []string{"COPY", "draining the slot"}},
		{"share of it", headName, []string{"filling alone, share of COPY", "following alone, share of draining the slot"}},
		processorColumn, requestsColumn, memoryColumn,
	},
	{
		{"changes/s", headName, []string{"committed"}},
		{"commit to readable, median ms", headName, []string{"commit to readable, median"}},
		{"99th percentile, ms", headName, []string{"commit to readable, 99th percentile"}},
		processorColumn, requestsColumn, memoryColumn,
	},
	{
		{"s until all are done", headName, []string{"until all documents are done"}},
		{"documents/s", headName, []string{"documents done"}},
		processorColumn, requestsColumn, memoryColumn,
	},
	{
		{"% of a core", headName, []string{"share of a core"}},
		{"transactions that wrote, a minute", headName, []string{"transactions that wrote to Postgres, a minute"}},
		{"KB of log, a minute", headName, []string{"log that Postgres wrote, a minute"}},
		memoryColumn,
	},
	{{"times as fast as rows that are all different", headName, []string{hotRatio}}},
	{{"bytes a second, of the plain table's", headName, []string{bytesRatio}}},
}

var (
	processorColumn = column{"CPU s per 100,000", headName, []string{"processor time per 100,000"}}
	requestsColumn  = column{"bulk requests per 100,000", headName, []string{"bulk requests per 100,000"}}
	memoryColumn    = column{"peak MB", headName, []string{"peak memory"}}
)

// Figures that compare what a step did with another one.
const (
	hotRatio   = "hot rows to rows that are all different, following alone"
	bytesRatio = "filling alone, bytes a second to those of the plain table"
)

// printMatrices reads what -json has written and prints it as tables in Markdown: those of one
// server together, whichever file they are from.
func printMatrices(files []string, w io.Writer) error {
	var servers []string
	reports := make(map[string][]*report) // by server
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r := &report{}
		if err := json.Unmarshal(text, r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		server := strings.TrimPrefix(r.Machine.Search, "a ")
		if r.Machine.Busy > 0 {
			server += fmt.Sprintf(", beside %d busy loops", r.Machine.Busy)
		}
		if reports[server] == nil {
			servers = append(servers, server)
		}
		reports[server] = append(reports[server], r)
	}
	for _, server := range servers {
		fmt.Fprintf(w, "### %s%s\n", strings.ToUpper(server[:1]), server[1:])
		for _, columns := range matrices {
			printMatrix(w, columns, reports[server])
		}
		fmt.Fprintln(w)
	}
	return nil
}

// printMatrix prints a table, if there is a row for it.
func printMatrix(w io.Writer, columns []column, reports []*report) {
	begun := false
	for _, r := range reports {
		for _, f := range r.Figures {
			if f.Build != headName || !slices.Contains(columns[0].names, f.Name) {
				continue
			}
			if !begun {
				begun = true
				fmt.Fprint(w, "\n| |")
				for _, c := range columns {
					fmt.Fprintf(w, " %s |", c.title)
				}
				fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(columns)))
			}
			fmt.Fprintf(w, "| %s |", strings.TrimSuffix(f.Step+", "+f.Series, ", "))
			for _, c := range columns {
				fmt.Fprintf(w, " %s |", c.cell(r.of(f.Step, f.Series, c.build)))
			}
			fmt.Fprintln(w)
		}
	}
}

// cell is what stands in a column in the row of a series.
func (c column) cell(s *series) string {
	for _, name := range c.names {
		if f := s.find(name); f != nil {
			text := number(f.Median, f.Unit)
			if f.Unit == "%" {
				text += " %"
			}
			return text
		}
	}
	return "–"
}
