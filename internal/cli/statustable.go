package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/reindex/control"
)

// table is the report for people.
func (r *statusReport) table() []byte {
	var b bytes.Buffer
	for _, ix := range r.Indices {
		if ix.summary != "" {
			fmt.Fprintf(&b, "%s: %s\n", ix.Index, ix.summary)
		}
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	s := r.Slot
	if r.Group != "" {
		fmt.Fprintf(&b, "group %s, ", r.Group)
	}
	fmt.Fprintf(&b, "slot %s: ", s.Name)
	switch {
	case !s.Exists:
		b.WriteString("does not exist")
	case s.Active:
		b.WriteString("an instance follows it")
	default:
		b.WriteString("no instance follows it")
	}
	if s.LagBytes != nil {
		fmt.Fprintf(&b, ", %s behind", size(max(0, *s.LagBytes)))
		if s.LagSeconds != nil {
			fmt.Fprintf(&b, " (%s)", time.Duration(*s.LagSeconds*float64(time.Second)).Round(time.Second))
		}
	}
	if s.WALStatus != "" && s.WALStatus != "reserved" {
		fmt.Fprintf(&b, ", its log is %s", s.WALStatus)
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "index\tstate\tdocuments\tdead letters\tphysical index")
	for _, ix := range r.Indices {
		documents := "?"
		if ix.Documents != nil {
			documents = strconv.FormatInt(*ix.Documents, 10)
		} else if ix.Physical == "" {
			documents = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", ix.Index, ix.State, documents, ix.DeadLetters, cmp.Or(ix.Physical, ix.Building, "-"))
	}
	w.Flush() // to memory
	if len(r.Topics) > 0 {
		b.WriteByte('\n')
		fmt.Fprintln(w, "topic\tgroup\tnot applied\tworkers")
		for _, t := range r.Topics {
			lag, workers := "?", "?"
			if t.Lag != nil && t.Workers != nil {
				lag, workers = strconv.FormatInt(*t.Lag, 10), strconv.Itoa(*t.Workers)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, t.Group, lag, workers)
		}
		w.Flush() // to memory
	}
	for _, ix := range r.Indices {
		if ix.Building != "" {
			next := ""
			if !s.Active {
				next = ", which the next instance goes on with"
			}
			fmt.Fprintf(&b, "\n%s: backfill of %s%s: %s\n", ix.Index, ix.Building, next, ix.progress())
		}
		if f := ix.FanOut; f != nil {
			fmt.Fprintf(&b, "\n%s: the documents of %d related rows are stored again beside the stream since %s, %d of them so far\n", ix.Index, f.RelatedRows, f.Since.Local().Format(time.DateTime), f.DocumentsStored)
		}
		if ix.Mapping == "differs" {
			fmt.Fprintf(&b, "\n%s: the mapping or its tables differ from those of the index: the next start sees to it, tidemark check says how\n", ix.Index)
		}
	}
	if len(r.Requests) > 0 {
		b.WriteByte('\n')
		fmt.Fprintln(w, "request\twhat\tindex\tstate\trows\tasked for")
		for _, q := range r.Requests {
			what := q.Kind
			if q.Condition != "" {
				what += " where " + shortened(q.Condition, 60)
			}
			rows := "-"
			if q.Kind == string(control.KindRefresh) {
				rows = strconv.FormatInt(q.RowsDone, 10)
			}
			state := q.Phase
			if q.Message != "" {
				state += ": " + shortened(q.Message, 60)
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", q.ID, what, q.Index, state, rows, q.CreatedAt.Local().Format(time.DateTime))
		}
		w.Flush() // to memory
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", note)
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(&b, "\nproblem: %s\n", problem)
	}
	return b.Bytes()
}

func (s *indexStatus) progress() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows", s.RowsDone)
	if s.RowsExpected != nil {
		percent := int64(100)
		if *s.RowsExpected > 0 {
			percent = min(99, s.RowsDone*100 / *s.RowsExpected)
		}
		fmt.Fprintf(&b, " of about %d (%d %%)", *s.RowsExpected, percent)
	}
	if s.RowsPerSecond > 0 {
		fmt.Fprintf(&b, ", %.0f rows/s", s.RowsPerSecond)
	}
	if s.RemainingSeconds != nil {
		fmt.Fprintf(&b, ", about %s left", time.Duration(*s.RemainingSeconds)*time.Second)
	}
	return b.String()
}

// shortened is a text on one line of a table, of at most so many characters.
func shortened(text string, most int) string {
	words := []rune(strings.Join(strings.Fields(text), " "))
	if len(words) > most {
		return string(words[:most-1]) + "…"
	}
	return string(words)
}
