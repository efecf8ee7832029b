package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv/browser"
)

const token = "a-token-of-16-characters-or-more"

// An operator remembers what was asked for.
type operator struct {
	mu    sync.Mutex
	asked []string
	err   error // the answer to all that is asked for
}

func (o *operator) ask(what, index string, rows []int64) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.TrimSpace(fmt.Sprint(what, " ", index, " ", strings.Trim(fmt.Sprint(rows), "[]")))
	o.asked = append(o.asked, text)
	return "It is asked for: " + text + ".", o.err
}

func (o *operator) Reindex(_ context.Context, index string) (string, error) {
	return o.ask("reindex", index, nil)
}

func (o *operator) Cancel(_ context.Context, index string) (string, error) {
	return o.ask("cancel", index, nil)
}

func (o *operator) Verify(_ context.Context, index string) (string, error) {
	return o.ask("verify", index, nil)
}

func (o *operator) RetryLetters(_ context.Context, index string, rows []int64) (string, error) {
	return o.ask("retry", index, rows)
}

func (o *operator) DropLetters(_ context.Context, index string, rows []int64) (string, error) {
	return o.ask("drop", index, rows)
}

// take returns what was asked for since it was called last.
func (o *operator) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := strings.Join(o.asked, "; ")
	o.asked = nil
	return asked
}

// An office is a server that may be asked for something.
type office struct {
	*source
	*operator
	server *Server
	url    string
}

func newOffice(t *testing.T, status Status, granted mapping.Secret, options ...func(*Options)) *office {
	t.Helper()
	o := &office{source: &source{status: status, letters: status.Letters}, operator: &operator{}}
	address, output := listening()
	events := new(Events)
	with := Options{Listen: "127.0.0.1:0", Source: o.source, Operator: o.operator, Token: granted, Events: events,
		Logger: slog.New(slog.NewMultiHandler(slog.NewJSONHandler(io.MultiWriter(output, t.Output()), nil), slog.NewJSONHandler(events, nil)))}
	for _, option := range options {
		option(&with)
	}
	o.server = New(with)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.server.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	o.url = "http://" + <-address
	return o
}

// remember has the last 15 minutes of an index be a curve, once and for all.
func (o *office) remember(index string, rate func(look int) float64) {
	o.server.history.mu.Lock()
	defer o.server.history.mu.Unlock()
	w := &written{at: time.Now().Add(time.Hour)}
	if o.server.history.last == nil {
		o.server.history.last = make(map[string]*written)
	}
	o.server.history.last[index] = w
	for i := range historyLooks {
		w.rates = append(w.rates, rate(i))
	}
}

// busy is a process in which there is something of everything.
func busy(now time.Time) Status {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	s := working()
	s.Version, s.Product = "0.9.0", "OpenSearch 3.3.2"
	s.Confirmed, s.WALEnd, s.Behind, s.NewestCommit = 0x3A12F0B8, 0x3A12F0B8+192_000, 1200*time.Millisecond, ago(3*time.Second)
	s.WAL = WAL{At: now, Kept: 48 << 20, Left: 976 << 20, Status: "reserved"}
	s.Indices = []Index{
		{Name: "products", Physical: "products-20260131t120000z", State: Live, Documents: 1_204_518, Rows: 1_204_000, RowsDone: 1_200_000, RowsExpected: -1, Changes: 5000,
			Proof: Proof{Proof: control.Proof{Index: "products", Last: control.Walk{Number: 3, BeganAt: ago(2*time.Hour + 7*time.Minute), FinishedAt: ago(time.Hour), Rows: 1_204_000, Documents: 1_204_518}}}},
		{Name: "orders", Physical: "orders-20260131t120000z", Building: "orders-20260207t080000z", State: Rebuilding, Documents: 8_210_044, Rows: 8_200_000,
			RowsDone: 3_380_000, RowsExpected: 8_200_000, RowsPerSecond: 18_200, DeadLetters: 2,
			FanOut: control.FanOutSum{Related: 3, Since: ago(4 * time.Minute), Stored: 12_500}},
		{Name: "customers", Physical: "customers-20260131t120000z", State: Live, Documents: 310_220, Rows: 310_000, RowsExpected: -1,
			Proof: Proof{Proof: control.Proof{Index: "customers", Unproven: control.Doubt{Since: ago(3 * time.Minute), Noted: ago(3 * time.Minute), Why: "the file of its table is another one"},
				Walk: control.Walk{Number: 4, BeganAt: ago(2 * time.Minute), Phase: control.WalkRows, Rows: 230_000, Total: 620_000, Found: 3, Repaired: 3}}}},
		{Name: "reviews", Building: "reviews-20260207t081500z", State: Backfilling, Documents: -1, Rows: -1, RowsDone: 410_000, RowsExpected: -1, RowsPerSecond: 9_400},
		{Name: "articles", Physical: "articles-20260101t000000z", State: Incomplete, Documents: 91_000, Rows: 95_000, RowsExpected: -1},
	}
	s.Letters = []Letter{
		{Row: 17, Index: "orders", Physical: "orders-20260131t120000z", ID: "1008", Position: "0/39F00000", Status: 400, Type: "mapper_parsing_exception", Reason: "failed to parse field [total] of type [double]", Attempts: 1, CreatedAt: ago(26 * time.Minute)},
		{Row: 18, Index: "orders", Physical: "orders-20260131t120000z", ID: "eu-west/1009", Routing: "tenant-7", Position: "0/39F00100", Status: 400, Type: "mapper_parsing_exception", Reason: "failed to parse field [total] of type [double]", Attempts: 4, CreatedAt: ago(20 * time.Minute)},
	}
	s.Alarms = []Alarm{
		{Key: "index articles", Text: "table public.articles has no column slug any more (tried again in 1m0s, or when the catalog changes); hint: put the column back, or take it out of the mapping and send SIGHUP", Since: ago(12 * time.Minute)},
	}
	return s
}

func wave(height, noise float64) func(int) float64 {
	return func(i int) float64 {
		x := float64(i%60) / 60
		return height*(0.35+x*(1-x)*2.4) + noise*float64((i*7919)%13)/13
	}
}

// TestPageLooks has the page in every light and width, with something of everything on it, and makes
// sure of what a picture does not show: that nothing is wrong with it, asked of anybody else, or wider
// than the screen.
func TestPageLooks(t *testing.T) {
	o := newOffice(t, busy(time.Now()), mapping.NewSecret(token))
	o.server.o.Logger.Info("tidemark starts", "version", "0.9.0", "indices", 5)
	o.server.o.Logger.Info("index is complete, the alias stands for it", "index", "products", "physical", "products-20260131t120000z", "rows", 1_200_000)
	o.server.o.Logger.Warn("the search server refuses a document, it is kept as a dead letter", "index", "orders", "id", "1009", "reason", "document refused with status 400: failed to parse field [total]")
	o.server.o.Logger.Error("an index cannot be as it should", "index", "articles", "error", "table public.articles has no column slug any more")
	o.remember("products", wave(420, 60))
	o.remember("orders", wave(18_000, 900))
	o.remember("customers", func(i int) float64 { return float64(i%40) / 20 })
	for _, screen := range []struct {
		name string
		browser.Screen
	}{
		{"light", browser.Screen{}},
		{"dark", browser.Screen{Dark: true}},
		{"phone", browser.Screen{Width: 390, Height: 844}},
		{"phone-dark", browser.Screen{Width: 390, Height: 844, Dark: true}},
		{"small-phone", browser.Screen{Width: 320, Height: 640}},
		{"no-script", browser.Screen{NoScript: true}},
	} {
		t.Run(screen.name, func(t *testing.T) {
			p := browser.Open(t, o.url, screen.Screen)
			p.Await("document.querySelector('#index-products .plot polyline')")
			p.Picture("page-" + screen.name)
			p.Visit(o.url + "/login")
			if screen.NoScript {
				return
			}
			p.Type("#token", token)
			p.Click("button.primary")
			p.AwaitText(".actions", "Rebuild")
			p.Picture("page-signed-in-" + screen.name)
			if wide := browser.Value[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
				t.Errorf("the page is %d pixels wider than the screen", wide)
			}
			p.Click("#index-orders a[href$='drop']")
			p.AwaitText("h1", "Drop dead letters of orders?")
			p.Picture("ask-" + screen.name)
			if said := p.Troubles(); len(said) > 0 {
				t.Errorf("the browser says %q", said)
			}
			for _, url := range p.Asked() {
				if !strings.HasPrefix(url, o.url+"/") {
					t.Errorf("it has asked for %s", url)
				}
			}
		})
	}
}
