package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv/browser"
)

// words are the statuses that the page has a word for, each with what it says.
func words(now time.Time) []struct {
	name   string
	status Status
	word   string // at the top
	mark   string
	says   []string // somewhere on the page
} {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	with := func(change func(s *Status)) Status {
		s := busy(now)
		s.Alarms, s.Letters = nil, nil
		proof := s.Indices[0].Proof
		for i := range s.Indices { // as they are when nothing is the matter
			name := s.Indices[i].Name
			s.Indices[i] = Index{Name: name, Physical: name + "-20260131t120000z", State: Live, Documents: 91_000, Rows: 90_900, RowsExpected: -1, Proof: proof}
		}
		change(&s)
		return s
	}
	doubt := func(ix *Index) {
		ix.Proof.Unproven = control.Doubt{Since: ago(3 * time.Minute), Noted: ago(3 * time.Minute), Why: "the file of its table is another one"}
	}
	return []struct {
		name   string
		status Status
		word   string
		mark   string
		says   []string
	}{
		{"in-sync", with(func(*Status) {}), "In sync", "good", []string{"Everything that is known to be committed is stored", "live", "2 h 7 min ago"}},
		{"failed", with(func(s *Status) {
			s.Failure = `slot shop is lost: it was invalidated, as more of the log was kept for it than max_slot_wal_keep_size allows; hint: tidemark run --reindex all`
			s.Connected, s.Behind = false, -1
			s.WAL = WAL{At: now, Kept: 0, Left: 0, Status: "lost"}
		}), "Failed", "bad", []string{"slot shop is lost", "Hint:", "tidemark run --reindex all", "unknown"}},
		{"held-up", busy(now), "Held up", "bad", []string{"1 alarm says", "put the column back", "12 min ago"}},
		{"not-connected", with(func(s *Status) {
			s.Connected, s.Behind, s.Confirmed, s.WALEnd, s.NewestCommit, s.WAL = false, -1, 0, 0, time.Time{}, WAL{}
			for i := range s.Indices {
				s.Indices[i] = Index{Name: s.Indices[i].Name, State: Backfilling, Documents: -1, Rows: -1, RowsExpected: -1}
			}
		}), "Not connected", "warn", []string{"another instance follows it", "none yet", "unknown", "not known", "known when this instance has the slot"}},
		{"incomplete", with(func(s *Status) {
			s.Indices[1].State, s.Indices[1].Building, s.Indices[1].RowsDone, s.Indices[1].RowsExpected, s.Indices[1].RowsPerSecond = Incomplete, "orders-20260207t080000z", 20_000, 91_000, 500
			s.Indices[4].State = Incomplete
		}), "Incomplete", "warn", []string{"Changes are missing in orders, articles", "changes are missing", "22 %", "2 min left"}},
		{"behind", with(func(s *Status) {
			s.Behind, s.WALEnd = 11*time.Minute, s.Confirmed+3<<30
			s.WAL = WAL{At: now, Kept: 3 << 30, Left: 200 << 20, Status: "extended"}
		}), "Behind", "warn", []string{"committed 11 min ago is not stored yet", "3 GiB", "extended, 200 MiB left"}},
		{"differences", with(func(s *Status) {
			s.Indices[2].Proof.Index = "customers"
			s.Indices[2].Proof.Last = control.Walk{Number: 3, BeganAt: ago(2 * time.Hour), FinishedAt: ago(time.Hour), Rows: 91_000, Documents: 91_000, Found: 12, Repaired: 4}
		}), "Needs a look", "warn", []string{"1 problem waits", "8 documents differ", "tidemark verify customers"}},
		{"dead-letters", with(func(s *Status) {
			s.Indices[1].DeadLetters, s.Letters = 1200, busy(now).Letters
		}), "Needs a look", "warn", []string{"1,200 documents were refused", "1,198 more follow these", "mapper_parsing_exception"}},
		{"comparing", with(func(s *Status) {
			doubt(&s.Indices[2])
			s.Indices[2].Proof.Walk = control.Walk{Number: 4, BeganAt: ago(2 * time.Minute), Phase: control.WalkRows, Rows: 23_000, Total: 182_000, Found: 3, Repaired: 3}
			doubt(&s.Indices[3])
		}), "Comparing", "busy", []string{"2 indices are compared", "unproven: the file of its table is another one", "13 %", "3 differ, 3 repaired"}},
		{"filling", with(func(s *Status) {
			s.Indices[0] = Index{Name: "products", Building: "products-20260131t120000z", State: Backfilling, Documents: -1, Rows: 90_900, RowsDone: 30_300, RowsExpected: 90_900, RowsPerSecond: 1010}
			s.Indices[3].State, s.Indices[3].Building, s.Indices[3].RowsDone = Rebuilding, "reviews-20260207t081500z", 410
		}), "Filling", "busy", []string{"2 indices are being filled", "nothing is searched yet", "33 %", "about 60 s left", "410 rows"}},
		{"no-index", with(func(s *Status) { s.Indices = nil }), "No index", "warn", []string{"The mapping file has no index."}},
	}
}

// legible returns what of a page cannot be read well: texts whose contrast is below 4.5 to 1, as WCAG
// asks for, with what they stand on.
const legible = `(() => {
	const channels = (color) => color.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const paper = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
	const poor = [];
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.nodeValue.trim()) || e.closest(".unseen, .skip, [hidden], noscript") || !e.getClientRects().length) continue;
		const [a, b] = [light(channels(getComputedStyle(e).color)), light(paper(e))].sort((a, b) => b - a);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) poor.push(e.textContent.trim().slice(0, 40) + ": " + ratio.toFixed(2));
	}
	return poor.join("; ");
})()`

// TestPageOfEachState has the page in each state that it has a word for, in the light, in the dark, and
// on a phone.
func TestPageOfEachState(t *testing.T) {
	all := words(time.Now())
	o := newOffice(t, all[0].status, mapping.NewSecret(token))
	for name, screen := range map[string]browser.Screen{"light": {}, "dark": {Dark: true}, "phone": {Width: 390, Height: 844}} {
		t.Run(name, func(t *testing.T) {
			p := browser.Open(t, o.url+"/login", screen)
			p.Type("#token", token)
			p.Press("\r")
			p.Await("document.querySelector('#state')")
			for _, w := range all {
				o.set(func(s *Status) { *s = w.status })
				for i, ix := range w.status.Indices {
					o.remember(ix.Name, wave(float64(100*(i+1)), 20))
				}
				p.Visit(o.url + "/")
				p.Await("document.querySelector('#status')")
				if word, class := p.Text("#state"), browser.Value[string](p, "document.querySelector('#state').className"); word != w.word || class != "state "+w.mark {
					t.Errorf("%s: the word is %q, of class %q", w.name, word, class)
				}
				if title := browser.Value[string](p, "document.title"); !strings.HasPrefix(title, w.word+" · shop") {
					t.Errorf("%s: the title is %q", w.name, title)
				}
				text := p.Text("body")
				for _, says := range w.says {
					if !strings.Contains(text, says) {
						t.Errorf("%s: the page does not say %q: %s", w.name, says, text)
					}
				}
				p.Picture(fmt.Sprintf("state-%s-%s", w.name, name))
				if wide := browser.Value[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
					t.Errorf("%s: the page is %d pixels wider than the screen", w.name, wide)
				}
				if poor := browser.Value[string](p, legible); poor != "" {
					t.Errorf("%s: hard to read: %s", w.name, poor)
				}
			}
			if said := p.Troubles(); len(said) > 0 {
				t.Errorf("the browser says %q", said)
			}
		})
	}
	seen := make(map[string]bool)
	for _, w := range all {
		for _, ix := range w.status.Indices {
			seen[string(ix.State)] = true
		}
	}
	for _, state := range states {
		if !seen[string(state)] {
			t.Errorf("no picture has an index that is %s", state)
		}
	}
}
