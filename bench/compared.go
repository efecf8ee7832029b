package main

import (
	"fmt"
	"math"
	"strings"

	"golang.org/x/perf/benchmath"
)

const (
	// realConfidence is how sure it has to be that a difference is one. A run has some forty
	// figures: at 95 % two of them would be said to differ where nothing does.
	realConfidence = 0.99
	// realPairs are the fewest that can be so sure: all of eight ratios lie on the same side of
	// their median once in 128 times.
	realPairs = 8
)

// A compared is a figure of two builds, taken in turns in the same runs.
type compared struct {
	Step   string  `json:"step"`
	Name   string  `json:"name"`
	Ratio  float64 `json:"ratio"` // median of those of the pairs, the base's figure being 1
	Lo, Hi float64 // between which that median is, with realConfidence; 0 and 0: there are too few pairs
	Real   bool    `json:"real"`   // 1 is not between them
	Better bool    `json:"better"` // than the base, if it is real
}

// compare compares what builds came to in each pair of runs.
//
// It is the ratio of a pair that counts: what the machine did meanwhile, both had alike. Nothing
// is assumed of how ratios are distributed: the interval is between two of the sorted ratios, as
// for the sign test.
func (r *report) compare(head, base string) {
	for _, f := range r.Figures {
		other := r.of(f.Step, f.Series, base).find(f.Name)
		if f.Build != head || other == nil || len(other.Runs) != len(f.Runs) {
			continue
		}
		if c := comparePairs(f.Runs, other.Runs); c != nil {
			c.Step, c.Name = f.Step, f.title()
			c.Better = c.Real && (c.Ratio > 1) == moreIsBetter(f.Unit)
			r.Compared = append(r.Compared, c)
		}
	}
}

// comparePairs returns nil where a ratio is none.
func comparePairs(head, base []float64) *compared {
	ratios := make([]float64, 0, len(head))
	for i, v := range head {
		switch {
		case v == base[i]:
			ratios = append(ratios, 1) // 0 and 0, too
		case v <= 0 || base[i] <= 0:
			return nil
		default:
			ratios = append(ratios, v/base[i])
		}
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(ratios, &benchmath.DefaultThresholds), realConfidence)
	c := &compared{Ratio: s.Center}
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) && s.Confidence >= realConfidence {
		c.Lo, c.Hi = s.Lo, s.Hi
		c.Real = c.Lo > 1 || c.Hi < 1
	}
	return c
}

// moreIsBetter reports whether a figure of a unit is better when it is larger.
func moreIsBetter(unit string) bool {
	return strings.HasSuffix(unit, "/s") || unit == "%" || unit == "times"
}

func (r *report) printCompared(text *strings.Builder) {
	if len(r.Compared) == 0 {
		return
	}
	fmt.Fprintf(text, "\nThis tree beside the base: the median of the ratios of pairs, and between which it is, %.0f %% sure\n", 100*realConfidence)
	for _, c := range r.Compared {
		verdict := fmt.Sprintf("%.3f to %.3f  ", c.Lo, c.Hi)
		switch {
		case c.Lo == 0 && c.Hi == 0:
			verdict = fmt.Sprintf("too few pairs: want %d", realPairs)
		case c.Better:
			verdict += "BETTER"
		case c.Real:
			verdict += "WORSE"
		default:
			verdict += "no difference shown"
		}
		fmt.Fprintf(text, "  %-12s %-75s %6.3f  %s\n", c.Step, c.Name, c.Ratio, verdict)
	}
}
