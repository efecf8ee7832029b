package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/testenv/browser"
)

// refusing is a process with 130 dead letters: every third is of products, the others of orders.
func refusing(now time.Time) Status {
	s := busy(now)
	s.Alarms, s.Letters = nil, nil
	s.Indices = s.Indices[:2]
	s.Indices[1] = Index{Name: "orders", Physical: "orders-20260131t120000z", State: Live, Documents: 8_210_044, Rows: 8_200_000, RowsExpected: -1}
	for i := range 130 {
		ix := &s.Indices[min(1, i%3)]
		ix.DeadLetters++
		l := Letter{Row: int64(100 + i), Index: ix.Name, Physical: ix.Physical, ID: fmt.Sprintf("eu-west/%d", 5000+i), Delete: i == 4, Position: "0/39F00000", Status: 400,
			Type: "mapper_parsing_exception", Reason: "failed to parse field [total] of type [double]. Preview of field's value: 'of a person'", Attempts: 1 + i%2, CreatedAt: now.Add(-time.Hour)}
		s.Letters = append(s.Letters, l)
	}
	return s
}

// TestLetterList reads every dead letter by the pages of /dead-letters.json, of all indices and of one.
func TestLetterList(t *testing.T) {
	o := newOffice(t, refusing(time.Now()), mapping.NewSecret(token))
	for _, tt := range []struct {
		query      string
		index      string
		pages, all int
	}{{"", "", 3, 130}, {"limit=130", "", 1, 130}, {"limit=65", "", 2, 130}, {"index=orders", "orders", 2, 86}, {"index=products&limit=1", "products", 44, 44}} {
		seen, pages := int64(0), 0
		rows := 0
		for after := int64(0); ; pages++ {
			resp, body := o.send(t, http.MethodGet, fmt.Sprintf("/dead-letters.json?%s&after=%d", tt.query, after), nil)
			var list letterList
			if err := json.Unmarshal(body, &list); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s %v", resp.Status, body, err)
			}
			for _, l := range list.DeadLetters {
				if l.Row <= seen || tt.index != "" && l.Index != tt.index || strings.Contains(l.Reason, "person") {
					t.Errorf("%s: behind %d comes %+v", tt.query, seen, l)
				}
				seen = l.Row
				rows++
			}
			if list.Next == nil {
				pages++
				break
			}
			after = *list.Next
		}
		if rows != tt.all || pages != tt.pages {
			t.Errorf("%q: %d dead letters by %d pages, want %d by %d", tt.query, rows, pages, tt.all, tt.pages)
		}
	}
	for query, want := range map[string]string{"after=-1": "after: ", "after=x": "after: ", "limit=0": "limit: want 1 to 1000", "limit=1001": "limit: ", "index=none": "no index none"} {
		if resp, body := o.send(t, http.MethodGet, "/dead-letters.json?"+query, nil); resp.StatusCode < 400 || resp.StatusCode > 404 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s", query, resp.Status, body)
		}
	}
	// Where too many are read already nobody waits, and where they cannot be read it is said why.
	for range maxLists {
		o.server.lists <- struct{}{}
	}
	if resp, body := o.send(t, http.MethodGet, "/dead-letters.json", nil); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "4 lists") {
		t.Errorf("%s %s", resp.Status, body)
	}
	for range maxLists {
		<-o.server.lists
	}
	o.source.lost = errors.New("list dead letters: connection refused")
	for _, path := range []string{"/dead-letters", "/dead-letters.json"} {
		if resp, body := o.send(t, http.MethodGet, path, nil); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "connection refused") || strings.Contains(string(body), "There are none") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// TestChosenLetters has a list of dead letters ask for some of them, and go on where it was.
func TestChosenLetters(t *testing.T) {
	o := newOffice(t, refusing(time.Now()), mapping.NewSecret(token))
	cookie, form := o.signInAt(t, "orders")
	for _, tt := range []struct{ query, back string }{
		{"row=101", "../../"}, {"row=101&list=", "../../dead-letters"},
		{"row=101&list=" + url.QueryEscape("index=orders&after=170"), "../../dead-letters?after=170&index=orders"},
		{"row=101&list=" + url.QueryEscape("//evil.example/?index=orders&x=y"), "../../dead-letters"},
	} {
		resp, body := o.send(t, http.MethodPost, "/indices/orders/drop?"+tt.query, url.Values{"form": {form}}, "Cookie", cookie)
		if asked := o.take(); resp.Header.Get("Location") != tt.back || asked != "drop orders 101" {
			t.Errorf("%s: %s to %q, asked for is %q: %s", tt.query, resp.Status, resp.Header.Get("Location"), asked, body)
		}
	}
	// No box is ticked: that is not all dead letters of the index.
	resp, _ := o.send(t, http.MethodGet, "/indices/orders/drop?chosen=yes&list=index%3Dorders", nil, "Cookie", cookie)
	_, body := o.send(t, http.MethodGet, "/dead-letters?index=orders", nil, "Cookie", cookie)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "../../dead-letters?index=orders" || !strings.Contains(string(body), "no dead letter was chosen") {
		t.Errorf("%s to %s: %s", resp.Status, resp.Header.Get("Location"), body)
	}
}

// TestPageOfLetters has somebody go through more dead letters than the page has, choose an index, and
// drop what he ticks.
func TestPageOfLetters(t *testing.T) {
	o := newOffice(t, refusing(time.Now()), mapping.NewSecret(token))
	o.set(func(s *Status) { s.Letters = s.Letters[:50] }) // as the census has it
	for name, screen := range map[string]browser.Screen{"light": {}, "dark": {Dark: true}, "phone": {Width: 390, Height: 844}} {
		t.Run(name, func(t *testing.T) {
			o.take()
			p := browser.Open(t, o.url, screen)
			rows := func(first, last string, n int) {
				t.Helper()
				p.AwaitText(".rows tbody tr:first-child", first)
				p.AwaitText(".rows tbody tr:last-child", last)
				if got := browser.Value[int](p, "document.querySelectorAll('.rows tbody tr').length"); got != n {
					t.Errorf("%d dead letters from %s to %s, want %d", got, first, last, n)
				}
				if wide := browser.Value[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
					t.Errorf("the page is %d pixels wider than the screen", wide)
				}
				if poor := browser.Value[string](p, legible); poor != "" {
					t.Errorf("hard to read: %s", poor)
				}
			}
			p.AwaitText("#part-letters", "80 more follow these")
			p.Click("#part-letters .lead a")
			rows("eu-west/5050", "eu-west/5099", 50)
			if text := p.Text("body"); strings.Contains(text, "of a person") || strings.Contains(text, "Retry") {
				t.Errorf("anybody sees %s", text)
			}
			p.Click(".pages a:last-child")
			rows("eu-west/5100", "eu-west/5129", 30)
			p.Click(".pages a")
			rows("eu-west/5000", "eu-west/5049", 50)
			p.Visit(o.url + "/login")
			p.Type("#token", token)
			p.Press("\r")
			p.Await("document.querySelector('#actions-orders')")
			p.Click("#index-orders dd a")
			rows("eu-west/5001", "eu-west/5074", 50)
			p.AwaitText(".choice a[aria-current]", "orders 86")
			p.Click(".pages a:last-child")
			rows("eu-west/5076", "eu-west/5128", 36)
			p.AwaitText(".rows", "of a person")
			p.Click("input[value='176']")
			p.Click("input[value='177']")
			p.Picture("letters-" + name)
			p.Click("button[formaction]")
			p.AwaitText("form.card", "number 176, 177 alone")
			p.Picture("letters-ask-" + name)
			p.Click("form.card button")
			p.AwaitText(".notice", "It is asked for: drop orders 176 177.")
			rows("eu-west/5076", "eu-west/5128", 36)
			p.Click("tr:nth-child(3) a[href*='/retry']")
			p.AwaitText("form.card", "number 179 alone")
			p.Click("form.card a.button") // Back
			rows("eu-west/5076", "eu-west/5128", 36)
			p.Visit(o.url + "/dead-letters?after=500")
			p.AwaitText("main", "There are none behind those that were shown.")
			if asked := o.take(); asked != "drop orders 176 177" {
				t.Errorf("asked for is %q", asked)
			}
			if said := p.Troubles(); len(said) > 0 {
				t.Errorf("the browser says %q", said)
			}
		})
	}
}
