package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/testenv/browser"
)

// controls are what somebody can use of a page, in its order.
const controls = `[...document.querySelectorAll("a[href], button, summary, input:not([type=hidden])")]`

// focused describes what has the focus.
const focused = `(() => { const e = document.activeElement; return e.nodeName + " " + (e.id || e.textContent.trim().replace(/\s+/g, " ").slice(0, 60)); })()`

// checkTabs makes sure that the tabulator leads to each control of a page, in order, and that one sees
// where one is.
func checkTabs(t *testing.T, p *browser.Page, name string) {
	t.Helper()
	// From the begin of the page, wherever the focus is by itself.
	browser.Value[bool](p, `(() => { const b = document.body; b.tabIndex = -1; b.focus(); b.removeAttribute("tabindex"); return true; })()`)
	n := browser.Value[int](p, controls+".length")
	if n < 3 {
		t.Fatalf("%s: %d controls", name, n)
	}
	for i := range n {
		p.Press("\t")
		at := browser.Value[string](p, fmt.Sprintf(`(() => {
			const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
			if (%s[%d] !== e) return "the focus is at " + e.outerHTML.slice(0, 200) + " instead of " + %[1]s[%[2]d].outerHTML.slice(0, 200);
			if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "nothing shows that the focus is at " + e.outerHTML.slice(0, 200);
			if (box.width < 8 || box.height < 8 || box.bottom <= 0 || box.top >= innerHeight) return "out of sight is " + e.outerHTML.slice(0, 200);
			if (!(e.textContent.trim() || e.labels?.length || e.ariaLabel)) return "no name has " + e.outerHTML.slice(0, 200);
			return "";
		})()`, controls, i))
		if at != "" {
			t.Fatalf("%s: %s", name, at)
		}
	}
}

// tabTo presses the tabulator until something is so of what has the focus.
func tabTo(t *testing.T, p *browser.Page, is string) {
	t.Helper()
	for range browser.Value[int](p, controls+".length") + 1 {
		p.Press("\t")
		if browser.Value[bool](p, "(() => { const e = document.activeElement; return !!("+is+"); })()") {
			return
		}
	}
	t.Fatalf("the tabulator does not lead to what is so that %s", is)
}

// TestKeyboard has the page be used by somebody who has no mouse: he signs in, goes to the indices,
// unfolds an error, has an index rebuilt, and retries two dead letters.
func TestKeyboard(t *testing.T) {
	o := newOffice(t, busy(time.Now()), mapping.NewSecret(token))
	o.server.o.Logger.Error("an index cannot be as it should", "index", "articles", "error", "no column slug")
	for name, screen := range map[string]browser.Screen{"large": {}, "phone": {Width: 390, Height: 844}} {
		t.Run(name, func(t *testing.T) {
			o.take()
			p := browser.Open(t, o.url, screen)
			p.Await("document.querySelector('#error-articles')")
			checkTabs(t, p, "the page of anybody")
			tabTo(t, p, "e.textContent === 'Sign in'")
			p.Press("\r")
			p.Await("document.activeElement?.id === 'token'") // by itself
			checkTabs(t, p, "the page for the token")
			tabTo(t, p, "e.id === 'token'")
			p.Press(token)
			p.Press("\r")
			p.Await("document.querySelector('#actions-products')")
			checkTabs(t, p, "the page")

			p.Visit(o.url + "/")
			p.Press("\t")
			if got := p.Text(":focus"); got != "To the indices" {
				t.Fatalf("the first control is %q", got)
			}
			p.Picture("keyboard-skip-" + name)
			p.Press("\r")
			p.Await("document.activeElement.id === 'indices'")
			p.Press("\t")
			if got := browser.Value[string](p, focused); got != "A reindex-products" {
				t.Errorf("behind the heading of the indices comes %s", got)
			}
			tabTo(t, p, "e.nodeName === 'SUMMARY' && e.parentElement.id === 'error-articles'")
			p.Press(" ")
			p.Await("document.querySelector('#error-articles').open && document.querySelector('#error-articles').innerText.includes('no column slug')")
			p.Picture("keyboard-unfolded-" + name)
			p.Press("\r")
			p.Await("!document.querySelector('#error-articles').open")

			tabTo(t, p, "e.id === 'reindex-articles'")
			p.Press("\r")
			p.AwaitText("h1", "Rebuild articles?")
			checkTabs(t, p, "the page that asks once more")
			tabTo(t, p, "e.nodeName === 'BUTTON' && e.textContent === 'Rebuild it'")
			p.Press("\r")
			p.AwaitText(".notice", "It is asked for: reindex articles.")

			tabTo(t, p, "e.closest('dd') && e.textContent === '2 of orders'")
			p.Press("\r")
			p.AwaitText("h1", "Dead letters of orders")
			checkTabs(t, p, "the page of dead letters")
			tabTo(t, p, "e.type === 'checkbox' && e.value === '17'")
			p.Press(" ")
			tabTo(t, p, "e.type === 'checkbox' && e.value === '18'")
			p.Press(" ")
			p.Picture("keyboard-letters-" + name)
			tabTo(t, p, "e.textContent === 'Retry those that are ticked'")
			p.Press("\r")
			p.AwaitText("form.card", "dead letters number 17, 18 alone")
			tabTo(t, p, "e.nodeName === 'BUTTON' && e.textContent === 'Retry'")
			p.Press("\r")
			p.AwaitText(".notice", "It is asked for: retry orders 17 18.")
			p.AwaitText("h1", "Dead letters of orders") // where he was
			if asked := o.take(); asked != "reindex articles; retry orders 17 18" {
				t.Errorf("asked for is %q", asked)
			}
			if said := p.Troubles(); len(said) > 0 {
				t.Errorf("the browser says %q", said)
			}
		})
	}
}

// TestLivePageKeepsItsReader has the page change under somebody who reads and uses it: what has the
// focus, what is unfolded and what is selected stays, whatever comes before it or goes.
func TestLivePageKeepsItsReader(t *testing.T) {
	quiet := busy(time.Now())
	quiet.Alarms, quiet.Indices[1].FanOut.Related, quiet.Indices[0].FanOut.Related = nil, 0, 3
	o := newOffice(t, quiet, mapping.NewSecret(token))
	o.server.o.Logger.Warn("the search server refuses a document", "index", "orders", "id", "1009")
	p := browser.Open(t, o.url+"/login", browser.Screen{})
	p.Type("#token", token)
	p.Press("\r")
	p.Await("document.querySelector('#error-orders')")

	// Somebody unfolds an error, selects words of an event and of a document, and goes to a button.
	tabTo(t, p, "e.nodeName === 'SUMMARY' && e.parentElement.id === 'error-orders'")
	p.Press(" ")
	p.Await("document.querySelector('#error-orders').open")
	selectText := func(selector string) string {
		t.Helper()
		return browser.Value[string](p, fmt.Sprintf(`(() => { getSelection().selectAllChildren(document.querySelector(%q)); return String(getSelection()); })()`, selector))
	}
	changes := 0
	// change has the status change, and waits until the page has it.
	change := func(what func(s *Status)) {
		t.Helper()
		changes++
		o.set(func(s *Status) {
			s.Product = fmt.Sprintf("OpenSearch 3.3.%d", changes)
			s.Bulk.Rejected = int64(1_000_000 + changes)
			what(s)
		})
		p.AwaitText("#part-summary", fmt.Sprintf("%s rejected", grouped(int64(1_000_000+changes))))
	}
	for _, step := range []struct {
		name, focus, selected string // what somebody goes to, and selects
		change                func(s *Status)
	}{
		{"an alarm comes above it", "reindex-orders", "#part-events li:last-child .what", func(s *Status) { s.Alarms = busy(time.Now()).Alarms }},
		{"something comes within the index", "retry-orders", "#index-orders .physical", func(s *Status) { s.Indices[1].FanOut.Related = 3 }},
		{"something goes within the index", "reindex-products", "#index-products .physical", func(s *Status) { s.Indices[0].FanOut.Related = 0 }},
		{"another alarm comes", "reindex-products", "#part-alarms article:last-child .hint", func(s *Status) {
			s.Alarms = append([]Alarm{{Key: "another", Text: "it is; hint: wait", Since: time.Now()}}, s.Alarms...)
		}},
		{"and that one again", "reindex-products", "#part-alarms article:last-child .hint", func(s *Status) { s.Alarms = s.Alarms[1:] }},
		{"an index comes above it", "verify-products", "#index-customers .physical", func(s *Status) {
			s.Indices = append([]Index{{Name: "a", State: Live, Physical: "a-1", RowsExpected: -1}}, s.Indices...)
		}},
		{"a filling ends above its buttons", "retry-orders", "#index-orders .physical", func(s *Status) {
			s.Indices[2].State, s.Indices[2].Building = Live, ""
		}},
		{"events come", "drop-orders", "#part-events li:last-child .what", func(*Status) {
			o.server.o.Logger.Info("one thing")
			o.server.o.Logger.Warn("another", "index", "products", "error", "it is")
		}},
		{"a dead letter above it goes", "letter-18", "#letter-18 td", func(s *Status) { s.Letters = s.Letters[1:] }},
		{"the alarms go", "reindex-articles", "#index-articles h3", func(s *Status) { s.Alarms = nil }},
	} {
		selected := ""
		browser.Value[bool](p, fmt.Sprintf(`(() => { const e = document.getElementById(%q); window.reader = e.matches("a") ? e : e.querySelector("a"); reader.focus(); return document.activeElement === reader; })()`, step.focus))
		before := browser.Value[string](p, "reader.href")
		selected = selectText(step.selected)
		if selected == "" {
			t.Fatalf("%s: nothing is selected", step.name)
		}
		change(step.change)
		if is := browser.Value[string](p, "document.activeElement === reader ? reader.href : document.activeElement.outerHTML.slice(0, 200)"); is != before {
			t.Errorf("%s: the focus was at %s, and is at %s", step.name, before, is)
		}
		if is := browser.Value[string](p, "String(getSelection())"); is != selected {
			t.Errorf("%s: %q was selected, and now %q", step.name, selected, is)
		}
		if !browser.Value[bool](p, "document.querySelector('#error-orders').open") {
			t.Errorf("%s: what was unfolded is folded", step.name)
		}
	}

	// What has the focus goes: he is left where it was.
	browser.Value[bool](p, `(() => { document.getElementById("verify-products").focus(); return true; })()`)
	change(func(s *Status) { s.Indices[1].State, s.Indices[1].Building = Rebuilding, "products-2" })
	if is := browser.Value[string](p, focused); is != "ARTICLE index-products" {
		t.Errorf("the button that had the focus has gone, and the focus is at %s", is)
	}
	p.Press("\t")
	if is := browser.Value[string](p, focused); !strings.HasPrefix(is, "SUMMARY Last error") {
		t.Errorf("behind the index comes %s", is)
	}
	browser.Value[bool](p, `(() => { document.querySelector("#letter-18 a").focus(); return true; })()`)
	change(func(s *Status) { s.Letters, s.Indices[2].DeadLetters = nil, 0 })
	if said := p.Troubles(); len(said) > 0 {
		t.Errorf("the browser says %q", said)
	}
}
