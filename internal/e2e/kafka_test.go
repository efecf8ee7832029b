package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"tidemark/testenv"
)

// TestKafkaKilled kills the instance and its workers at random moments, stops workers in between as well,
// while tables change and indices are filled: what comes out of Kafka is what went into it.
func TestKafkaKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 2)
	l := newLoad(t, s.db, s.newLoadTables(t, pick(20_000, 500_000))...)
	l.connections, l.pause = 2, 100*time.Millisecond
	random := rand.New(rand.NewPCG(l.seed, 1<<33))
	end := l.begin(t)
	kills, stopped := 0, 0
	for range pick(10, 200) {
		args := []string{"run"}
		if complete, err := s.complete(t.Context()); err == nil && complete && random.IntN(2) == 0 {
			args = append(args, "--reindex", "all")
		}
		i := s.start(t, args...)
		i.mayLog(t, []string{"following the slot", "made a physical index", "stored a chunk", "index is complete"}[random.IntN(4)], 8*time.Second)
		victim := random.IntN(len(w.running))
		if random.IntN(2) == 0 {
			w.running[victim].kill()
			kills++
			w.running[victim] = w.replace(t, s)
		} else {
			// Longer than the session lasts: others get its partitions, and it goes on with what it had in hand.
			must(t, w.running[victim].cmd.Process.Signal(syscall.SIGSTOP))
			lasts(t, time.Duration(random.IntN(8000))*time.Millisecond)
			must(t, w.running[victim].cmd.Process.Signal(syscall.SIGCONT))
			stopped++
		}
		i.kill()
	}
	t.Logf("workers were killed %d times, stopped %d times", kills, stopped)
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	end()
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if v := s.verify(t, s.alias("big"), s.alias("pairs")); v.code != 0 {
		t.Errorf("verify: %d\n%s", v.code, v.said)
	}
	i.stop(t)
	w.stop(t)
}

// TestKafkaRebuild rebuilds an index with both sides live: the alias moves when the workers have everything,
// and nothing is read before.
func TestKafkaRebuild(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 1)
	l := newLoad(t, s.db, s.newLoadTables(t, 20_000)...)
	l.connections, l.pause = 2, 100*time.Millisecond
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	end := l.begin(t)
	must(t, w.running[0].cmd.Process.Signal(syscall.SIGSTOP))
	asked := s.start(t, "reindex", s.alias("pairs"))
	i.poll(t, "all rows are produced", func(ctx context.Context) error {
		var building string
		var rows int
		err := s.db.DB.QueryRowContext(ctx, `SELECT building, rows_done FROM dbsync_ctrl.indices WHERE name = $1`, s.alias("pairs")).Scan(&building, &rows)
		if err == nil && (building == "" || rows < 1000) {
			err = fmt.Errorf("%d rows of %q", rows, building)
		}
		return err
	})
	lasts(t, 2*time.Second)
	if complete, err := s.complete(t.Context()); err != nil || complete {
		t.Errorf("the rebuild is over (%v) although nobody has applied anything", err)
	}
	must(t, w.running[0].cmd.Process.Signal(syscall.SIGCONT))
	asked.succeed(t)
	end()
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestKafkaRefused has documents that the cluster refuses: the workers report them, and they are dead letters as ever.
func TestKafkaRefused(t *testing.T) {
	t.Parallel()
	s := newRefusing(t, shared(t))
	s.throughKafka(t, 2)
	s.db.Exec(t, `UPDATE a SET n = 'not a number' WHERE id = 7`)
	s.options["a"] = []testenv.CheckOption{testenv.WithRefused("7", "20")}
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `UPDATE a SET n = 'twenty' WHERE id = 20`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.poll(t, "there are two dead letters", func(context.Context) error {
		if kept := s.deadLetters(t); len(kept) != 2 {
			return fmt.Errorf("kept: %v", kept)
		}
		return nil
	})
	s.start(t, "dead-letters", "retry", s.alias("a")).fail(t, 1, "2 documents were refused again")
	s.db.Exec(t, `UPDATE a SET n = '1' WHERE id IN (7, 20)`)
	s.options["a"] = nil
	s.awaitCaughtUp(t, i)
	s.start(t, "dead-letters", "retry", "all").succeed(t)
	if kept := s.deadLetters(t); len(kept) != 0 {
		t.Errorf("dead letters are left: %v", kept)
	}
	s.checkSynced(t)
	i.stop(t)
}

// TestKafkaTruncate empties tables, of one index and of a part of one, and fills them again.
func TestKafkaTruncate(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.throughKafka(t, 2)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'a' FROM generate_series(1, 5000) i`)
	s.index("a", "a", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	for n := range 3 {
		s.db.Exec(t, fmt.Sprintf(`BEGIN; INSERT INTO a SELECT i, 'before' FROM generate_series(10001, 11000) i ON CONFLICT DO NOTHING; TRUNCATE a;
			INSERT INTO a SELECT i, 'round %d' FROM generate_series(1, 3000) i; COMMIT`, n), fmt.Sprintf(`UPDATE a SET v = 'later' WHERE id %% 7 = %d`, n))
	}
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestKafkaPausedInstance has an instance stopped while operations are on their way, until another one has taken the slot:
// what it produces when it goes on is passed over.
func TestKafkaPausedInstance(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.throughKafka(t, 1)
	s.newRows(t)
	first := s.start(t, "run")
	s.awaitCaughtUp(t, first)
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP))
	s.db.Exec(t, `INSERT INTO rows SELECT i, 'late' FROM generate_series(1001, 1020) i`)
	second := s.takeOver(t)
	s.db.Exec(t, `DELETE FROM rows WHERE id > 1000`)
	s.awaitCaughtUp(t, second)
	must(t, first.cmd.Process.Signal(syscall.SIGCONT))
	first.awaitLog(t, "waiting for it")
	s.awaitCaughtUp(t, second)
	s.checkSynced(t)
	second.stop(t)
	s.db.Exec(t, `UPDATE rows SET v = 'of the first'`)
	s.awaitCaughtUp(t, first)
	s.checkSynced(t)
	first.stop(t)
}

// TestKafkaStopped has the only broker killed under load, and away for a while.
func TestKafkaStopped(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 2)
	w.use(testenv.StartKafka(t, testenv.KafkaOptions{}))
	s.underLoad(t, func(i *instance) {
		must(t, w.kafka.Kill(t.Context()))
		i.awaitReady(t, http.StatusServiceUnavailable, "Kafka")
		must(t, w.kafka.Start(t.Context()))
		i.awaitReady(t, http.StatusOK, "")
	})
}

// TestKafkaOfThree has one of three brokers killed under load, the one that coordinates the workers. The slot and
// the workers stand for as long as it takes to notice that and to elect others, and go on with the two that are left.
func TestKafkaOfThree(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 2)
	w.use(testenv.StartKafka(t, testenv.KafkaOptions{Nodes: 3}))
	w.more = ", replication: 3"
	s.underLoad(t, func(i *instance) {
		i.poll(t, "the workers share the topic", w.shared)
		confirmed, applied := longestStop(t, s.confirmed), longestStop(t, w.committed)
		lasts(t, 3*time.Second)
		t.Logf("with three brokers the slot stood for %s at the most, the workers for %s", confirmed(), applied())
		var lost int32
		must(t, w.asking(t, func(ctx context.Context, ask *kadm.Client) error {
			of := ask.FindGroupCoordinators(ctx, w.topic)
			lost = of[w.topic].NodeID
			return of.Error()
		}))
		confirmed, applied = longestStop(t, s.confirmed), longestStop(t, w.committed)
		start := time.Now()
		must(t, w.kafka.Nodes[lost-1].Kill(t.Context()))
		i.poll(t, "others lead its partitions", func(ctx context.Context) error { return w.leads(ctx, lost) })
		elected := time.Since(start)
		var before string
		must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&before))
		i.poll(t, "the slot has passed that", func(ctx context.Context) error {
			var passed bool
			err := s.db.DB.QueryRowContext(ctx, `SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, before, s.slot).Scan(&passed)
			if err == nil && !passed {
				err = errors.New("not yet")
			}
			return err
		})
		i.poll(t, "the workers share the topic again", w.shared)
		slot, workers := confirmed(), applied()
		t.Logf("others led after %s; the slot stood for %s at the most, the workers for %s", elected, slot, workers)
		// Clients ask again who leads after pauses of their own; the machine may have much else to do.
		if limit := elected + 20*time.Second; slot > limit || workers > limit {
			t.Errorf("longer than an election takes, %s", limit)
		}
	})
}

// longestStop looks at a position until the returned function is called, which returns for how long at the most it did
// not move. A position that cannot be had does not move.
func longestStop(t testing.TB, position func(ctx context.Context) (string, error)) (end func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		last, moved := "", time.Now()
		for {
			limited, cancel := context.WithTimeout(ctx, time.Second)
			at, err := position(limited)
			cancel()
			now := time.Now()
			most = max(most, now.Sub(moved))
			if err == nil && at != last {
				last, moved = at, now
			}
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
				longest <- most
				return
			}
		}
	}()
	return func() time.Duration {
		cancel()
		return (<-longest).Round(time.Millisecond)
	}
}

// confirmed is the position of the slot.
func (s *setup) confirmed(ctx context.Context) (at string, err error) {
	err = s.db.DB.QueryRowContext(ctx, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, s.slot).Scan(&at)
	return at, err
}

// TestKafkaTopicLost deletes the topic with operations in it that nobody has applied.
func TestKafkaTopicLost(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 1)
	s.newRows(t)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	w.running[0].stop(t)
	s.db.Exec(t, `UPDATE rows SET v = 'lost'`)
	i.poll(t, "it is produced", func(context.Context) error {
		if n, err := w.left(t); err != nil || n < 100 {
			return fmt.Errorf("%d records, %v", n, err)
		}
		return nil
	})
	w.deleteTopics(t)
	i.fail(t, 1, "topic "+w.topic, "may not have been applied", "--reindex all")
	s.start(t, "run").fail(t, 1, "deleted and made anew", "--reindex all")
	w.add(t, s)
	s.top = "on_slot_lost: reindex" // as --reindex all, and without asking
	i = s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
	// What was lost is past.
	i = s.start(t, "run")
	s.awaitCaughtUp(t, i)
	i.stop(t)
}

// TestKafkaWithout takes Kafka in where indices are filled already, which builds none anew, and out again.
func TestKafkaWithout(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newRows(t)
	s.once(t)
	before := s.awaitAtRest(t.Context(), t)
	w := s.throughKafka(t, 1)
	s.db.Exec(t, `UPDATE rows SET v = 'through Kafka'`)
	s.once(t)
	s.checkSynced(t)
	w.running[0].stop(t)
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	i.poll(t, "who waits is told that there is no worker", func(context.Context) error {
		wait := s.start(t, "wait", "--timeout", "2s")
		if wait.wait(t) != 1 || !strings.Contains(wait.tail(3), "0 workers") || !strings.Contains(wait.tail(3), "tidemark apply") {
			return errors.New(wait.tail(3)) // the slot may not have come so far
		}
		return nil
	})
	s.db.Exec(t, `UPDATE rows SET v = 'left behind'`)
	i.poll(t, "it is produced", func(context.Context) error {
		if n, err := w.left(t); err != nil || n < 100 {
			return fmt.Errorf("%d records, %v", n, err)
		}
		return nil
	})
	i.stop(t)
	s.kafka = nil
	once := s.once(t)
	if log := once.log(); !strings.Contains(log, "operations went through topic") {
		t.Error("it does not say that what is left in the topic is not known")
	}
	s.checkSynced(t)
	if after := s.awaitAtRest(t.Context(), t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the index was built anew: %v, then %v", before, after)
	}
}

// TestKafkaOfAnother has two instances produce to one topic: the second one is refused before it writes anything, and where
// it does all the same, what the first one has produced since is known to be lost.
func TestKafkaOfAnother(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 1)
	s.newRows(t)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)

	other := newSetup(t, shared(t))
	other.kafka = &workers{kafka: w.kafka, brokers: w.brokers, topic: w.topic, started: true}
	other.db.Exec(t, `CREATE TABLE rows (id int PRIMARY KEY)`)
	other.index("rows", "rows", "")
	other.start(t, "run").fail(t, 1, "topic "+w.topic+" is that of another instance", s.slot)

	s.db.Exec(t, `UPDATE rows SET v = 'of the first'`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	w.report(t, `{"kind":"begin","instance":"another one"}`)
	i.fail(t, 1, "another instance (another one) has begun to produce", "--reindex all")
	i = s.start(t, "run", "--reindex", "all")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestKafkaMaxLag fills an index while no worker is there: what is produced stays about as much as the file says, and
// changes are produced all the same.
func TestKafkaMaxLag(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	w := s.throughKafka(t, 0)
	w.more = ", max_lag: 500"
	s.db.Exec(t, `CREATE TABLE rows (id int PRIMARY KEY, v text)`, `INSERT INTO rows SELECT i, 'before' FROM generate_series(1, 30000) i`)
	s.index("rows", "rows", ", reindex: {chunk: 500, readers: 1}")
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	produced := func(least int64) {
		t.Helper()
		i.poll(t, fmt.Sprintf("%d records are produced", least), func(context.Context) error {
			n, err := w.left(t)
			if err == nil && n < least {
				err = fmt.Errorf("%d are", n)
			}
			return err
		})
	}
	produced(500)
	s.db.Exec(t, `UPDATE rows SET v = 'changed' WHERE id > 29000`)
	produced(1500) // these do not wait
	lasts(t, 3*time.Second)
	if n, err := w.left(t); err != nil || n > 10_000 {
		t.Errorf("%d records wait although 500 are enough (%v)", n, err)
	}
	w.add(t, s)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}
