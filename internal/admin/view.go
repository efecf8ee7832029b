package admin

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// templates are those of the page: each of web/*.html, and "status", the part that changes.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"bytes": byteText, "count": grouped, "clock": clockText, "stamp": stampText, "span": spanText, "rate": rateText,
	"percent": func(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + " %" },
	"path":    url.PathEscape,
	"letter":  letterOf,
	"left":    func(seconds int64) string { return spanText(float64(seconds)) },
}).ParseFS(web, "web/*.html"))

// policy is what a browser may do with the page: it takes nothing from anywhere else, runs and shows
// what this server has in files, and sends forms to it alone.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// A view is what a template shows.
type view struct {
	page
	Now     time.Time
	Root    string // how the path of the page begins, from where the browser is
	Granted bool   // there is a token
	Form    string // what a form has to say; "" where nothing may be asked for
	Notice  *notice
	Asked   *asked // what is to be asked once more
	List    *letterList
	State   overall
}

// An overall says in a word how everything is.
type overall struct {
	Mark string // good, busy, warn, bad
	Word string
	Text string // a sentence
	Hint string // what to do, "" where something else on the page says it
}

// show answers GET /.
func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	v := s.view(r, "./")
	if of := s.access.of(r, s.cookie()); of != nil {
		v.Notice = s.access.takeNotice(of)
	}
	s.render(w, http.StatusOK, "page.html", v)
}

// view returns what is shown to who sends the request.
func (s *Server) view(r *http.Request, root string) *view {
	v := &view{Now: time.Now(), Root: root, Granted: s.access.granted}
	to := toAnybody
	if of := s.access.of(r, s.cookie()); of != nil {
		v.Form, to = of.form, toHolder
	}
	v.page = s.page(to)
	v.State = v.overall()
	return v
}

// render answers with a page.
func (s *Server) render(w http.ResponseWriter, status int, name string, v any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		s.o.Logger.Error("the status page cannot be made", "error", err)
		http.Error(w, "the page cannot be made; the log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // a client that went away is no business of ours
}

var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json"}

// serveFile answers with a file of web. A new version of Tidemark has another one under the same name.
func serveFile(name string) http.HandlerFunc {
	text, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err) // it is not embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", types[path.Ext(name)])
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(text)
	}
}

// lagNoticed is the lag from which on the page says that indices are behind.
const lagNoticed = 60.0

// overall says how everything is: the worst first.
func (v *view) overall() overall {
	letters, filling, unproven := int64(0), 0, 0
	var incomplete []string
	for _, ix := range v.Indices {
		letters += ix.DeadLetters
		switch ix.State {
		case Incomplete:
			incomplete = append(incomplete, ix.Index)
		case Backfilling, Rebuilding:
			filling++
		}
		if ix.Proof != nil && ix.Proof.UnprovenSince != nil {
			unproven++
		}
	}
	switch {
	case v.Failure != "":
		what, hint := cutHint(v.Failure)
		return overall{Mark: "bad", Word: "Failed", Text: "It is about to end, and has to be started again when this is cured: " + what, Hint: hint}
	case len(v.Alarms) > 0:
		return overall{Mark: "bad", Word: "Held up", Text: counted(int64(len(v.Alarms)), "alarm says", "alarms say") + " what holds it up, and what to do."}
	case !v.Slot.Connected:
		return overall{Mark: "warn", Word: "Not connected", Text: "Nothing is received from the slot " + v.Slot.Name + ": another instance follows it, or the connection is being made."}
	case len(incomplete) > 0:
		return overall{Mark: "warn", Word: "Incomplete", Text: "Changes are missing in " + strings.Join(incomplete, ", ") + " until another physical index is filled."}
	case v.Slot.LagSeconds != nil && *v.Slot.LagSeconds >= lagNoticed:
		return overall{Mark: "warn", Word: "Behind", Text: "What was committed " + spanText(*v.Slot.LagSeconds) + " ago is not stored yet."}
	case len(v.Problems) > 0:
		return overall{Mark: "warn", Word: "Needs a look", Text: counted(int64(len(v.Problems)), "problem waits", "problems wait") + " for somebody, and nothing is held up."}
	case letters > 0:
		return overall{Mark: "warn", Word: "Needs a look", Text: counted(letters, "document was", "documents were") + " refused by the search server and kept as " + plural(letters, "a dead letter", "dead letters") + "; everything else goes on."}
	case unproven > 0:
		return overall{Mark: "busy", Word: "Comparing", Text: counted(int64(unproven), "index is", "indices are") + " compared with its tables, as it may differ by something that the log does not show."}
	case filling > 0:
		return overall{Mark: "busy", Word: "Filling", Text: counted(int64(filling), "index is", "indices are") + " being filled; searchers get it when it is complete."}
	case len(v.Indices) == 0:
		return overall{Mark: "warn", Word: "No index", Text: "The mapping file has no index."}
	}
	return overall{Mark: "good", Word: "In sync", Text: "Everything that is known to be committed is stored, or on its way."}
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Problem is what waits for somebody, taken apart as an alarm is.
func (v *view) Problem() (all []alarmPage) {
	for _, text := range v.Problems {
		all = append(all, alarmPage{Text: text})
	}
	return all
}

// AllLetters is how many dead letters there are.
func (v *view) AllLetters() (n int64) {
	for _, ix := range v.Indices {
		n += ix.DeadLetters
	}
	return n
}

// MoreLetters is how many dead letters there are beside those that are shown.
func (v *view) MoreLetters() int64 { return max(0, v.AllLetters()-int64(len(v.DeadLetters))) }

// A shownLetter is a dead letter on a page.
type shownLetter struct {
	LetterPage
	*view
	Named template.URL // it, as parameters of what is asked for
}

// letterOf returns what is shown of a dead letter on a page: in list, where it is a list.
func letterOf(v *view, l LetterPage, list ...string) shownLetter {
	named := url.Values{"row": {strconv.FormatInt(l.Row, 10)}}
	if len(list) > 0 {
		named["list"] = list
	}
	return shownLetter{l, v, template.URL(named.Encode())}
}

// LastLetter is the number of the last dead letter that is shown, 0 where none is.
func (v *view) LastLetter() int64 {
	if n := len(v.DeadLetters); n > 0 {
		return v.DeadLetters[n-1].Row
	}
	return 0
}

// Size is how large a request may be at the moment, in bytes.
func (b bulkPage) Size() int64 { return int64(b.RequestBytes) }

// Mark says which colour an event has.
func (e Event) Mark() string {
	switch e.Level {
	case "ERROR":
		return "bad"
	case "WARN":
		return "warn"
	}
	return "info"
}

// Why is the reason that an event gives, "" for none.
func (e Event) Why() string { return cmp.Or(e.attribute("error"), e.attribute("reason")) }

// What is what an alarm says without its hint.
func (a alarmPage) What() string { what, _ := cutHint(a.Text); return what }

// Hint is what to do about it, "" where the alarm does not say.
func (a alarmPage) Hint() string { _, hint := cutHint(a.Text); return hint }

// cutHint takes a text apart: what happened, and what to do.
func cutHint(text string) (what, hint string) {
	if what, hint, ok := strings.Cut(text, "hint: "); ok {
		return strings.TrimRight(what, " ;\n"), strings.TrimSpace(hint)
	}
	return text, ""
}

// Mark says which colour a state has.
func (s State) Mark() string {
	switch s {
	case Live:
		return "good"
	case Backfilling, Rebuilding:
		return "busy"
	}
	return "warn"
}

// Known reports whether this instance knows how an index is: one that waits for the slot does not.
func (v *view) Known(p IndexPage) bool {
	return v.Slot.Connected || p.Physical != "" || p.Building != ""
}

// Badge says which colour the state of an index has on the page: what is live is no good news where
// nothing is received.
func (v *view) Badge(p IndexPage) string {
	switch mark := p.State.Mark(); {
	case !v.Known(p):
		return ""
	case mark == "good" && (v.Failure != "" || !v.Slot.Connected):
		return "warn"
	default:
		return mark
	}
}

// Filled is how much of the backfill under way is done, from 0 to 1; nil where none is, or that is
// not known.
func (p IndexPage) Filled() *float64 {
	if p.Building == "" || p.RowsExpected == nil || *p.RowsExpected == 0 {
		return nil
	}
	share := min(1, float64(p.RowsDone)/float64(*p.RowsExpected))
	return &share
}

// Cancellable reports whether a rebuild is under way that may be given up.
func (p IndexPage) Cancellable() bool { return p.State == Rebuilding }

// Comparable reports whether the index can be compared with its tables.
func (p IndexPage) Comparable() bool {
	return p.State == Live && (p.Proof == nil || p.Proof.Comparing == nil)
}

// A plot is a curve of rates, in a frame of plotWidth times plotHeight.
type plot struct {
	Line, Area string // points of SVG
	Now, Most  float64
	Label      string
}

const plotWidth, plotHeight = historyLooks, 40

// Plot returns the curve of what was written of the index lately, nil where nothing is known.
func (p IndexPage) Plot() *plot {
	if p.Rate == nil || len(p.Rate.PerSecond) == 0 {
		return nil
	}
	rates := p.Rate.PerSecond
	curve := plot{Now: rates[len(rates)-1]}
	for _, rate := range rates {
		curve.Most = max(curve.Most, rate)
	}
	var line strings.Builder
	first := plotWidth - len(rates)
	for i, rate := range rates {
		height := 0.0
		if curve.Most > 0 {
			height = rate / curve.Most
		}
		fmt.Fprintf(&line, "%d,%.1f ", first+i, plotHeight-1-height*(plotHeight-2))
	}
	curve.Line = strings.TrimSpace(line.String())
	curve.Area = fmt.Sprintf("%d,%d %s %d,%d", first, plotHeight, curve.Line, plotWidth-1, plotHeight)
	curve.Label = fmt.Sprintf("written in the last 15 minutes: %s now, %s at the most", rateText(curve.Now), rateText(curve.Most))
	return &curve
}

// Proven says in a few words how the index is known to be equal to its tables, and Mark in which
// colour.
func (p IndexPage) Proven() (said struct{ Mark, Text string }) {
	proof := p.Proof
	switch {
	case proof == nil:
		said.Mark, said.Text = "info", "not compared yet"
	case proof.UnprovenSince != nil:
		said.Mark, said.Text = "warn", "unproven: "+proof.UnprovenWhy
	case proof.EqualAsOf != nil:
		said.Mark, said.Text = "good", ""
	case proof.Compared != nil:
		left := proof.Compared.Differences - proof.Compared.Repaired
		said.Mark, said.Text = "warn", counted(left, "document differs", "documents differ")
	default:
		said.Mark, said.Text = "info", "filled, and not compared since"
	}
	return said
}

// byteText writes a number of bytes: 1.5 MiB.
func byteText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, i := float64(n)/1024, 0
	for value >= 1023.95 && i < len(units)-1 {
		value /= 1024
		i++
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + units[i:i+1] + "iB"
}

// rateText writes how many a second.
func rateText(perSecond float64) string {
	if perSecond > 0 && perSecond < 10 {
		return strings.TrimSuffix(strconv.FormatFloat(perSecond, 'f', 1, 64), ".0") + "/s"
	}
	return grouped(int64(perSecond+0.5)) + "/s"
}

// spanText writes a number of seconds: 45 s, 3 min, 2 h 5 min, 4 d.
func spanText(seconds float64) string {
	n := int64(seconds + 0.5)
	switch {
	case n < 120:
		return fmt.Sprintf("%d s", max(0, n))
	case n < 2*3600:
		return fmt.Sprintf("%d min", n/60)
	case n < 48*3600:
		if minutes := n % 3600 / 60; minutes > 0 {
			return fmt.Sprintf("%d h %d min", n/3600, minutes)
		}
		return fmt.Sprintf("%d h", n/3600)
	}
	return fmt.Sprintf("%d d", n/86400)
}

// clockText writes when something was, from now: 3 min ago.
func clockText(now, at time.Time) string {
	if seconds := now.Sub(at).Seconds(); seconds >= 1 {
		return spanText(seconds) + " ago"
	}
	return "now"
}

// stampText writes a time so that machines read it, and people who want to know it exactly.
func stampText(at time.Time) string { return at.UTC().Format(time.RFC3339) }
