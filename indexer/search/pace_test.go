package search

import (
	"cmp"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/mapping/limit"
)

// A model is a server as a pace sees it.
type model struct {
	speed  curve
	waits  float64 // s that a batch waits beside that if it goes by one request; shared by those that go at a time
	worth  int     // how many requests a batch can be cut into; 0: 16
	places int     // requests at a time; further ones are rejected; 0: no bound
	noise  float64 // standard deviation of the log of a batch's time
	merges float64 // share of the batches that the server is late with, as it has merges to do
	random *rand.Rand

	seconds  float64 // that batches took, but for noise and merges
	rejected int     // requests
}

// A curve is how many batches a second there are, by requests at a time; what is in between is interpolated.
type curve []struct {
	requests int
	speed    float64
}

func (c curve) at(requests int) float64 {
	for i, p := range c {
		switch {
		case p.requests == requests:
			return p.speed
		case p.requests > requests:
			before := c[i-1]
			return before.speed + (p.speed-before.speed)*float64(requests-before.requests)/float64(p.requests-before.requests)
		}
	}
	return c[len(c)-1].speed
}

func (c curve) best() (most float64) {
	for _, p := range c {
		most = max(most, p.speed)
	}
	return most
}

const (
	modelBatch = 4 << 20 // bytes
	mergeTime  = 4.0     // s in the mean, where the fastest batch takes 1
)

// write writes a batch.
func (m *model) write(p *pace) {
	b := p.begin(cmp.Or(m.worth, 16))
	by := p.pass()
	server, waits := 1/m.speed.at(b.requests), m.waits/float64(b.requests)
	smooth := true
	for i := range b.requests {
		rejected := m.places > 0 && i >= m.places
		if rejected {
			smooth = false
			m.rejected++
		}
		p.answered(by, answer{operations: 500, bytes: modelBatch / b.requests, rejected: rejected, stored: !rejected})
	}
	m.seconds += server + waits
	took := server*math.Exp(m.random.NormFloat64()*m.noise) + waits
	if m.merges > 0 && m.random.Float64() < m.merges {
		took += mergeTime * m.random.ExpFloat64()
	}
	p.end(b, modelBatch, time.Duration(took*float64(time.Second)), smooth)
}

var (
	// Shares of the fastest, as they were measured with an OpenSearch of two cores.
	twoCores = curve{{1, .79}, {2, .91}, {3, .93}, {4, 1}, {6, .93}, {8, .88}, {16, .83}}
	// The same of an Elasticsearch 8, to which it matters less.
	elastic = curve{{1, .63}, {2, 1}, {3, .95}, {4, 1}, {8, .94}, {16, .86}}
	// A server to which more requests are just more work.
	oneCore = curve{{1, 1}, {2, .95}, {4, .85}, {8, .7}, {16, .5}}
	// Many nodes, each of which is slow.
	slowNodes = curve{{1, .04}, {2, .08}, {4, .15}, {8, .25}, {16, .35}}
)

const defaultBytes = limit.DefaultBytes

// The number of requests is the one that is best, or nearly, whatever the server is like.
func TestPaceFindsTheBest(t *testing.T) {
	for _, test := range []struct {
		name    string
		speed   curve
		noise   float64
		merges  float64
		batches int
		want    float64 // share of the best number's time, all told
	}{
		{"two cores, a short run", twoCores, .1, 0, 40, .95},
		{"two cores", twoCores, .1, 0, 300, .97},
		{"two cores, merges", twoCores, .1, .05, 300, .96},
		{"two cores, much noise", twoCores, .3, 0, 300, .93},
		{"two cores, for long", twoCores, .1, 0, 5000, .98},
		{"two cores, much noise, for long", twoCores, .3, 0, 5000, .955},
		{"two cores, merges, for long", twoCores, .1, .05, 5000, .98},
		{"Elasticsearch, merges", elastic, .1, .05, 300, .97},
		{"one core", oneCore, .1, 0, 1000, .95},
		{"one core, merges", oneCore, .1, .05, 1000, .95},
		{"many slow nodes", slowNodes, .1, 0, 1000, .95},
		{"many slow nodes, merges", slowNodes, .1, .05, 1000, .94},
	} {
		t.Run(test.name, func(t *testing.T) {
			const runs = 50
			seconds := 0.0
			for seed := range runs {
				m := model{speed: test.speed, noise: test.noise, merges: test.merges, random: rand.New(rand.NewPCG(uint64(seed), 1))}
				p := newPace(16, defaultBytes)
				for range test.batches {
					m.write(&p)
				}
				seconds += m.seconds
			}
			share := float64(runs*test.batches) / test.speed.best() / seconds
			t.Logf("%.3f of the best", share)
			if share < test.want {
				t.Errorf("%.3f of the best, want %.3f", share, test.want)
			}
		})
	}
}

// Where more requests at a time are not faster there are not more, however much chance has a say.
func TestPaceAsksForNoMore(t *testing.T) {
	const runs, batches = 200, 1000
	flat := curve{{1, .9}, {2, 1}, {16, 1}}
	requests, most := 0, 0
	for seed := range runs {
		m := model{speed: flat, noise: .1, random: rand.New(rand.NewPCG(uint64(seed), 1))}
		p := newPace(16, defaultBytes)
		for range batches {
			m.write(&p)
			requests += p.requests.now
		}
		if p.requests.now > 2*startRequests {
			most++
		}
	}
	mean := float64(requests) / (runs * batches)
	t.Logf("%.2f at a time, more than twice as many as at first in %d of %d runs", mean, most, runs)
	if mean > startRequests || most > runs/20 {
		t.Errorf("%.2f at a time, more than twice as many as at first in %d of %d runs", mean, most, runs)
	}
}

// Where the server becomes another one in the middle no fixed number is as good, unless it lasts for
// a few batches only.
func TestPaceFollowsAChange(t *testing.T) {
	const slow = 11 // a batch takes 0.1 s, and 1.1 s longer by one request that the server reads at 4 MB/s
	for _, test := range []struct {
		name          string
		before, after model
		batches       int // before each change
		changes       int
		want          float64 // times as fast as the best fixed number
	}{
		{"many slow nodes", model{speed: twoCores}, model{speed: slowNodes}, 400, 2, 1.03},
		{"Elasticsearch, ten seconds", model{speed: elastic}, model{speed: elastic, waits: slow}, 50, 2, .969},
		{"Elasticsearch, a minute", model{speed: elastic}, model{speed: elastic, waits: slow}, 400, 2, 1.04},
		{"Elasticsearch, again and again", model{speed: elastic}, model{speed: elastic, waits: slow}, 100, 7, .97},
		{"OpenSearch, ten seconds", model{speed: twoCores}, model{speed: twoCores, waits: slow}, 50, 2, .985},
		{"others need the cores", model{speed: twoCores}, model{speed: oneCore}, 200, 2, .98},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := func(p *pace, noise, merges float64, seed int) (seconds float64) {
				random := rand.New(rand.NewPCG(uint64(seed), 1))
				for part := range test.changes + 1 {
					m := test.before
					if part%2 == 1 {
						m = test.after
					}
					m.noise, m.merges, m.random = noise, merges, random
					for range test.batches {
						m.write(p)
					}
					seconds += m.seconds
				}
				return seconds
			}
			best := math.Inf(1)
			for n := range 16 {
				p := newPace(16, defaultBytes)
				p.fix(n + 1)
				best = min(best, run(&p, 0, 0, 1))
			}
			const runs = 200
			seconds := 0.0
			for seed := range runs {
				p := newPace(16, defaultBytes)
				seconds += run(&p, .1, .05, seed) / runs
			}
			t.Logf("%.3f times as fast as the best fixed number", best/seconds)
			if best/seconds < test.want {
				t.Errorf("%.3f times as fast as the best fixed number, want %.3f", best/seconds, test.want)
			}
		})
	}
}

// A server that rejects is given less at once, more again later, and seldom what it rejects.
func TestPaceUnderRejections(t *testing.T) {
	for _, places := range []int{1, 2, 3, 5, 7} {
		m := model{speed: slowNodes, random: rand.New(rand.NewPCG(1, 1))}
		p := newPace(16, defaultBytes)
		for range 100 {
			m.write(&p)
		}
		before := p.requests.now
		if before < 12 {
			t.Fatalf("%d at a time, want what is fastest", before)
		}
		m.places = places
		for range 4 { // 16, 8, 4, 2
			m.write(&p)
		}
		if p.requests.now > places {
			t.Errorf("%d places: %d at a time after four batches", places, p.requests.now)
		}
		for range 100 {
			m.write(&p)
		}
		m.rejected = 0
		for range 100 {
			m.write(&p)
		}
		// A rise that is refused has a request or two too many.
		if m.rejected > 8 {
			t.Errorf("%d places: %d requests were rejected in 100 batches", places, m.rejected)
		}
		if p.requests.now > places+1 || p.requests.now < places-1 {
			t.Errorf("%d places: %d at a time", places, p.requests.now)
		}
		m.places = 0
		for n := 0; p.requests.now < before; n++ {
			if n == 500 {
				t.Fatalf("%d places: %d at a time 500 batches after the server takes all, want %d", places, p.requests.now, before)
			}
			m.write(&p)
		}
	}
}

// Batches that are not enough for all requests at a time have their number become less, too, and
// those that are small say nothing.
func TestPaceOfSmallerBatches(t *testing.T) {
	for _, test := range []struct{ worth, least, most int }{{12, 1, 3}, {8, 1, 3}, {7, 16, 16}, {1, 16, 16}} {
		m := model{speed: oneCore, noise: .05, worth: test.worth, random: rand.New(rand.NewPCG(1, 1))}
		p := newPace(16, defaultBytes)
		p.requests.now = 16
		for range 500 {
			m.write(&p)
		}
		if n := p.requests.now; n < test.least || n > test.most {
			t.Errorf("batches worth %d: %d at a time, want %d to %d", test.worth, n, test.least, test.most)
		}
	}
}

// Batches that are written beside each other, or of which something was sent twice, do not say how
// fast the server is.
func TestPaceMeasuresWhatIsAlone(t *testing.T) {
	p := newPace(16, defaultBytes)
	for range 100 {
		first := p.begin(16)
		second := p.begin(16)
		p.end(first, modelBatch, time.Second, true)
		third := p.begin(16)
		p.end(second, modelBatch, time.Second, true)
		p.end(third, modelBatch, time.Second, true)
		p.end(p.begin(16), modelBatch, time.Second, false)
	}
	if p.trial != newTrial() {
		t.Errorf("%+v", p.trial)
	}
	p.end(p.begin(16), modelBatch, time.Second, true)
	if p.trial == newTrial() {
		t.Error("a batch that was alone said nothing")
	}
}

// Of what goes at the same time and is rejected, the first one counts.
func TestPaceFallsOnce(t *testing.T) {
	p := newPace(16, defaultBytes)
	b := p.begin(16)
	by := p.pass()
	for i := range 4 {
		if !p.answered(by, answer{operations: 500, bytes: 1 << 20, rejected: true}) {
			t.Errorf("rejected request %d: nothing less is asked for", i)
		}
	}
	p.end(b, modelBatch, time.Second, false)
	if p.requests.now != 2 {
		t.Errorf("%d at a time, want 2", p.requests.now)
	}
	for _, want := range []bool{true, false} { // 1, and then there is no less
		if got := p.answered(p.pass(), answer{operations: 500, bytes: 1 << 20, rejected: true}); got != want || p.requests.now != 1 {
			t.Errorf("%d at a time, less: %t, want 1, %t", p.requests.now, got, want)
		}
	}
}

// The size of requests falls where they are too large or too slow, and comes back.
func TestPaceOfBytes(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name    string
		answers []answer
		want    int
	}{
		{"nothing", nil, 8 * mib},
		{"too large", []answer{{operations: 9, bytes: 6 * mib, tooLarge: true}}, 3 * mib},
		{"late", []answer{{operations: 9, bytes: 2 * mib, late: true}}, 1 * mib},
		{"slow", []answer{{operations: 9, bytes: 4 * mib, slow: true, stored: true}}, 2 * mib},
		{"one document", []answer{{operations: 1, bytes: 6 * mib, tooLarge: true}, {operations: 1, bytes: 6 * mib, late: true}}, 8 * mib},
		{"rejected", []answer{{operations: 9, bytes: 6 * mib, rejected: true}}, 8 * mib},
		{"too small to be smaller", []answer{{operations: 9, bytes: limit.MinBytes, tooLarge: true}}, limit.MinBytes},
	} {
		p := newPace(4, 8*mib)
		for _, a := range test.answers {
			p.answered(p.pass(), a)
		}
		if p.bytes.now != test.want {
			t.Errorf("%s: %d bytes, want %d", test.name, p.bytes.now, test.want)
			continue
		}
		for range 100 {
			p.answered(p.pass(), answer{operations: 9, bytes: p.bytes.now / 4, stored: true})
		}
		if p.bytes.now != test.want {
			t.Errorf("%s: %d bytes after small requests, want %d", test.name, p.bytes.now, test.want)
		}
		for range 300 {
			p.answered(p.pass(), answer{operations: 9, bytes: p.bytes.now, stored: true})
		}
		if p.bytes.now != 8*mib {
			t.Errorf("%s: %d bytes after 300 full requests, want all", test.name, p.bytes.now)
		}
	}
}

// Whatever the server answers, in whatever order batches begin and end, a pace stays within its
// bounds, and comes to where it was.
func TestPaceIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 64).Draw(t, "requests")
		bytes := rapid.IntRange(limit.MinBytes, limit.MaxBytes).Draw(t, "bytes")
		p := newPace(most, bytes)
		var batches []batch
		passes := []pass{p.pass()}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				batches = append(batches, p.begin(rapid.IntRange(1, 100).Draw(t, "worth")))
			case 1:
				if n := len(batches); n > 0 {
					p.end(batches[0], rapid.IntRange(0, 1<<24).Draw(t, "size"), time.Duration(rapid.IntRange(0, 1e10).Draw(t, "time")), rapid.Bool().Draw(t, "smooth"))
					batches = batches[1:]
				}
			case 2:
				p.answered(rapid.SampledFrom(passes).Draw(t, "pass"), answer{
					operations: rapid.IntRange(1, 2).Draw(t, "operations"), bytes: rapid.IntRange(1, 2*bytes).Draw(t, "bytes"),
					rejected: rapid.Bool().Draw(t, "rejected"), late: rapid.Bool().Draw(t, "late"), tooLarge: rapid.Bool().Draw(t, "too large"),
				})
				passes = append(passes, p.pass())
			}
			if n := p.now(); n < 1 || n > most || p.requests.now < 1 || p.requests.now > most || p.bytes.now < limit.MinBytes || p.bytes.now > bytes {
				t.Fatalf("%d (%d) requests of %d bytes, want 1 to %d of %d to %d", n, p.requests.now, p.bytes.now, most, limit.MinBytes, bytes)
			}
		}
		for _, b := range batches {
			p.end(b, 0, 0, false)
		}
		if p.writing != 0 || p.trying != 0 {
			t.Fatalf("%d batches under way, trying %d", p.writing, p.trying)
		}
		for range 64 * lastPatience {
			b := p.begin(1000)
			p.end(b, 1<<20, time.Second, true)
		}
		if p.requests.hasFallen() {
			t.Fatalf("%d requests, and it is not back to %d", p.requests.now, p.requests.before)
		}
	})
}
