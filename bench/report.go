package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/version"
)

// A figure is one thing measured, once in each run.
type figure struct {
	Step   string    `json:"step"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Runs   []float64 `json:"runs"`
	Median float64   `json:"median"`
}

// machine is what the figures depend on.
type machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	System    string `json:"system"`
	Go        string `json:"go"`
	Tidemark  string `json:"tidemark"`
	Postgres  string `json:"postgres"`
	Search    string `json:"search"`
	Servers   string `json:"servers"`
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), %s, %s, tidemark %s; Postgres %s, %s; %s",
		m.Cores, m.Processor, m.System, m.Go, m.Tidemark, m.Postgres, m.Search, m.Servers)
}

func thisMachine() machine {
	m := machine{Processor: "unknown processor", Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Tidemark: version.String()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Processor = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// A report is what is told in the end.
type report struct {
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Data    string    `json:"data"`
	Figures []*figure `json:"figures"`
}

// add notes what one run gave.
func (r *report) add(step, name, unit string, value float64) {
	i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Step == step && f.Name == name })
	if i < 0 {
		i = len(r.Figures)
		r.Figures = append(r.Figures, &figure{Step: step, Name: name, Unit: unit})
	}
	f := r.Figures[i]
	f.Runs = append(f.Runs, value)
	sorted := slices.Sorted(slices.Values(f.Runs))
	f.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// print writes the report as a table: medians, and what they are the medians of.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n%s\n\n", r.Machine, r.Data)
	step := ""
	for _, f := range r.Figures {
		line := fmt.Sprintf("  %-52s %10s", f.Name+", "+f.Unit, number(f.Median, f.Unit))
		if len(f.Runs) > 1 {
			line += "  of"
			for _, v := range f.Runs {
				line += fmt.Sprintf(" %8s", number(v, f.Unit))
			}
		}
		if f.Step != step {
			step = f.Step
			line = step + "\n" + line
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// number writes a figure with three digits that count.
func number(v float64, unit string) string {
	switch {
	case unit == "%" || v >= 100:
		text := strconv.FormatFloat(v, 'f', 0, 64)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return text
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// write writes the report as JSON; "auto" is a file of its own in bench/results.
func (r *report) write(file string) (string, error) {
	if file == "auto" {
		file = filepath.Join("bench", "results", r.Time.Format("20060102T150405Z")+".json")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, append(text, '\n'), 0o644)
}
