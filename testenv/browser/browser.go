// Package browser gives tests a real browser, to look at pages as people do: Chromium, as Debian's
// package chromium has it.
//
// Where there is none a test is skipped, or fails with TIDEMARK_TEST_REQUIRE=1. TIDEMARK_CHROMIUM names
// the program, where it is none of the usual ones. Pictures go to the folder that
// TIDEMARK_SCREENSHOTS names, and are kept; without it to one that is removed with the test.
package browser

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tidemark/testenv"
)

// patience bounds everything that is waited for. It is far longer than anything takes.
const patience = time.Minute

var names = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// program returns the path of the browser.
func program(t testing.TB) string {
	t.Helper()
	testenv.SkipShort(t)
	for _, name := range append([]string{os.Getenv("TIDEMARK_CHROMIUM")}, names...) {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	testenv.Lacks(t, "a browser", "apt-get install chromium, or name one by TIDEMARK_CHROMIUM")
	return ""
}

// A Screen is what a page is looked at on. The zero value is a large one, in the light.
type Screen struct {
	Width, Height int  // 0: 1280 and 900
	Dark          bool // what the person prefers
	NoScript      bool // JavaScript is switched off
}

// A Page is a page in a browser of its own.
type Page struct {
	t      testing.TB
	ctx    context.Context
	screen Screen

	mu       sync.Mutex
	troubles []string // what the browser has said against the page
	asked    []string // what was asked of servers
}

// Open starts a browser, for the length of the test, and has it look at a page.
func Open(t testing.TB, url string, screen Screen) *Page {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program(t)), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	allocated, endAllocated := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("end the browser: %v", err)
		}
		end()
		endAllocated()
	})
	screen.Width, screen.Height = cmp.Or(screen.Width, 1280), cmp.Or(screen.Height, 900)
	p := &Page{t: t, ctx: ctx, screen: screen}
	scheme := "light"
	if screen.Dark {
		scheme = "dark"
	}
	// The browser starts with the first step, and ends with its context.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatalf("listen to the browser: %v", err)
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, log.Enable, cdp.Empty{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(screen.Width), Height: int64(screen.Height), DeviceScaleFactor: 1, Mobile: screen.Width < 600})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: screen.NoScript})
	p.Visit(url)
	return p
}

// hear takes up what the browser says.
func (p *Page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.troubles = append(p.troubles, e.ExceptionDetails.Text+" "+e.ExceptionDetails.URL)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.troubles = append(p.troubles, string(e.Entry.Source)+": "+e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		p.asked = append(p.asked, e.Request.URL)
	}
}

// Troubles returns what the browser has said against the page: scripts that failed, what the
// policy of the page did not let it do, what was not there.
func (p *Page) Troubles() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.troubles)
}

// Asked returns the URLs of everything that was asked of servers.
func (p *Page) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// run does one step, and returns what comes of it.
func run[T any](p *Page, step chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, step)
	if err != nil {
		p.t.Fatalf("in the browser: %v", err)
	}
	return value
}

// call gives the browser a command of its protocol.
func call[P, R any](p *Page, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.t.Fatalf("tell the browser %s: %v", command.Method, err)
	}
	return answer
}

// Visit has the browser go to another page.
func (p *Page) Visit(url string) {
	p.t.Helper()
	run(p, chromedp.Navigate(url))
}

// Await waits until an expression of JavaScript is true of the page, as one that is live becomes. The page is whole
// then: a document whose style has not come yet has the right words in the wrong colors and places.
func (p *Page) Await(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.readyState === "complete" && matchMedia("(prefers-color-scheme: dark)").matches === %t && !!(%s)`, p.screen.Dark, expression)))
		cancel()
		if err == nil && is {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the page is not so that %s (%v); it says:\n%s", expression, err, p.Text("body"))
		}
		time.Sleep(50 * time.Millisecond) // a page that is loaded anew tells nobody who waits
	}
}

// AwaitText waits until an element is there and has this in its text.
func (p *Page) AwaitText(selector, text string) {
	p.t.Helper()
	p.Await("[...document.querySelectorAll(" + quoted(selector) + ")].some(e => e.innerText.includes(" + quoted(text) + "))")
}

// Text returns the text of the first element that a selector finds, "" for none.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return Value[string](p, "document.querySelector("+quoted(selector)+")?.innerText ?? ''")
}

// Value returns what an expression of JavaScript is in the page.
func Value[T any](p *Page, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression))
}

// Click clicks the first element that a selector finds, when it is there.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.Await("document.querySelector(" + quoted(selector) + ")")
	run(p, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Type types a text into the first element that a selector finds.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.Await("document.querySelector(" + quoted(selector) + ")")
	run(p, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// Press presses keys, where the focus is.
func (p *Page) Press(keys string) {
	p.t.Helper()
	run(p, chromedp.KeyEvent(keys))
}

// Picture takes a picture of the whole page, as long as it is, and keeps it under this name.
func (p *Page) Picture(name string) {
	p.t.Helper()
	folder := os.Getenv("TIDEMARK_SCREENSHOTS")
	if folder == "" {
		folder = p.t.TempDir()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		p.t.Fatal(err)
	}
	png := run(p, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// quoted returns a text as JavaScript has it.
func quoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(text) + "'"
}
