package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"tidemark/testenv"
	"tidemark/testenv/browser"
)

// TestPage has somebody on call use the status page of a running instance, in a browser: a rebuild is
// asked for by a click and watched to its end, a dead letter retried when its reason was cured, the
// index compared, and the instance ends before his eyes.
func TestPage(t *testing.T) {
	t.Parallel()
	const token, rows = "a-token-of-16-characters-or-more", 8000
	var refused []string // more than the page shows
	for id := 71; id <= 130; id++ {
		refused = append(refused, strconv.Itoa(id))
	}
	s := newSetup(t, shared(t))
	s.admin = ", token: " + token
	s.db.Exec(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`, fmt.Sprintf(`INSERT INTO t SELECT i, i FROM generate_series(1, %d) i`, rows),
		`UPDATE t SET v = 'no number' WHERE id BETWEEN 71 AND 130`, `ANALYZE t`)
	s.index("t", "t", ", fields: {v: {type: integer}}, reindex: {chunk: 200, max_rows_per_second: 1000}", testenv.WithRefused(refused...))
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	url := "http://" + i.admin(t)
	p := browser.Open(t, url, browser.Screen{})
	index := fmt.Sprintf(`[id="index-%s"] `, s.alias("t"))
	click := func(button, action, says string) {
		t.Helper()
		p.AwaitText(index+".actions", button)
		p.Click(index + ".actions a[href$='/" + action + "']")
		p.AwaitText("form.card h1", s.alias("t")+"?")
		p.Click("form.card button")
		p.AwaitText(".notice", says)
	}

	p.AwaitText(".state", "Needs a look")
	p.AwaitText(".rows", "mapper_parsing_exception")
	if text := p.Text("body"); strings.Contains(text, token) || browser.Value[int](p, "document.querySelectorAll('a[href^=\"./indices\"]').length") > 0 {
		t.Errorf("who has not signed in is shown how to ask for something: %s", text)
	}
	p.Click(".session a")
	p.Type("#token", "another-token-of-16-characters")
	p.Click("button.primary")
	p.AwaitText(".notice", "this is not admin.token")
	p.Type("#token", token)
	p.Click("button.primary")

	before := p.Text(index + ".physical")
	click("Rebuild", "reindex", "is asked for")
	p.AwaitText(index+".badge", "rebuilding")
	p.Await(`document.querySelector('` + index + `progress')?.value > 0.2`)
	p.AwaitText(index+".progress", "left")
	p.Picture("rebuild-under-way")
	p.AwaitText(index+".badge", "live")
	if after := p.Text(index + ".physical"); after == before {
		t.Errorf("it is still %s", after)
	}
	p.Await(`document.querySelector('` + index + `progress') == null`)
	p.AwaitText(index+".facts", "7,940")
	p.AwaitText(".events", "index is complete, the alias stands for it")
	p.Picture("rebuild-at-its-end")

	p.Visit(url + "/indices/" + s.alias("t") + "/cancel") // as from a page of before
	p.Click("form.card button")
	p.AwaitText(".notice.bad", "cannot be given up: the index is not being rebuilt")
	p.AwaitText("#part-letters .lead", "10 more follow these")
	p.Click("#part-letters .lead a")
	p.AwaitText(".rows tbody tr:last-child", "130")
	p.Click(`.choice a[href*='index=']`)
	p.AwaitText(".rows tbody tr:first-child", "71")
	p.Click(".pages a")
	p.AwaitText(".rows tbody tr:first-child", "121")
	p.Picture("dead-letters-behind-the-first")
	s.db.Exec(t, `UPDATE t SET v = id WHERE id BETWEEN 121 AND 122`)
	s.awaitCaughtUp(t, i)
	p.Click("tr:nth-child(1) input")
	p.Click("tr:nth-child(2) input")
	p.Click("form .actions button") // retry
	p.AwaitText("form.card", "alone")
	p.Click("form.card button")
	p.AwaitText(".notice", "retried: 2, all stored")
	p.AwaitText(".rows tbody tr:first-child", "123") // of the same list
	s.db.Exec(t, `UPDATE t SET v = id WHERE v = 'no number'`)
	s.awaitCaughtUp(t, i)
	p.Click(".name")
	click("Retry dead letters", "retry", "retried: 58, all stored")
	p.Await(`document.querySelector('.rows') == null`)
	click("Compare", "verify", "is being compared")
	p.AwaitText(".events", "an index was compared with its tables")
	p.AwaitText(index+".facts .good", "")
	p.AwaitText(".state", "In sync")
	p.Picture("all-is-well")
	if said := p.Troubles(); len(said) > 1 { // the answer to the wrong token
		t.Errorf("the browser says %q", said)
	}
	i.stop(t)
	p.Await(`!document.getElementById('lost').hidden`)
	p.Picture("connection-lost")
	testenv.CheckSynced(t, s.db, s.search, s.alias("t"), "t")
}
