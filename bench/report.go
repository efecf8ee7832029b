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
	Build  string    `json:"build"`  // whose it is; "" is a limit's
	Series string    `json:"series"` // within the step, such as the updates of hot rows; "": there is one
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
	Busy      int    `json:"busy"` // busy loops beside
}

func (m machine) String() string {
	text := fmt.Sprintf("%d cores (%s), %s, %s, tidemark %s; Postgres %s, %s; %s",
		m.Cores, m.Processor, m.System, m.Go, m.Tidemark, m.Postgres, m.Search, m.Servers)
	if m.Busy > 0 {
		text += fmt.Sprintf("; beside %d busy loops", m.Busy)
	}
	return text
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
	Time     time.Time   `json:"time"`
	Machine  machine     `json:"machine"`
	Data     string      `json:"data"`
	Figures  []*figure   `json:"figures"`
	Compared []*compared `json:"compared,omitempty"`
}

// A series is where the figures of one build, or of the limits, go in one step. A step may have
// several, which have names.
type series struct {
	report            *report
	step, name, build string
}

// of gives a series of a build. The limits' build is "".
func (r *report) of(step, name, build string) *series {
	return &series{report: r, step: step, name: name, build: build}
}

// add notes what one run gave.
func (s *series) add(name, unit string, value float64) {
	f := s.find(name)
	if f == nil {
		f = &figure{Step: s.step, Build: s.build, Series: s.name, Name: name, Unit: unit}
		s.report.Figures = append(s.report.Figures, f)
	}
	f.Runs = append(f.Runs, value)
	sorted := slices.Sorted(slices.Values(f.Runs))
	f.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// usage notes what a run of the tool took for n rows, changes or documents.
func (s *series) usage(n int, u usage) {
	s.add("processor time per 100,000", "s", per100k(u.CPU.Seconds(), n))
	s.add("bulk requests per 100,000", "", per100k(float64(u.written.requests), n))
	if u.Memory > 0 {
		s.add("peak memory", "MB", float64(u.Memory)/1e6)
	}
}

func per100k(v float64, n int) float64 { return v * 1e5 / float64(n) }

// find returns a figure, or nil.
func (s *series) find(name string) *figure {
	for _, f := range s.report.Figures {
		if f.Step == s.step && f.Series == s.name && f.Build == s.build && f.Name == name {
			return f
		}
	}
	return nil
}

// title is what a figure is called within its step.
func (f *figure) title() string {
	name := f.Name
	if f.Series != "" {
		name = f.Series + ": " + name
	}
	if f.Unit != "" {
		name += ", " + f.Unit
	}
	return name
}

// print writes the report as a table: medians, and what they are the medians of.
func (r *report) print(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s\n%s\n", r.Machine, r.Data)
	for _, step := range steps {
		head := "\n" + step + "\n"
		for _, f := range r.Figures {
			if f.Step != step {
				continue
			}
			whose := f.Build
			if whose == "" {
				whose = "limit"
			}
			fmt.Fprintf(&text, "%s  %-80s %10s", head, whose+": "+f.title(), number(f.Median, f.Unit))
			head = ""
			if len(f.Runs) > 1 {
				text.WriteString("  of")
				for _, v := range f.Runs {
					fmt.Fprintf(&text, " %8s", number(v, f.Unit))
				}
			}
			text.WriteByte('\n')
		}
	}
	r.printCompared(&text)
	_, err := io.WriteString(w, text.String())
	return err
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
