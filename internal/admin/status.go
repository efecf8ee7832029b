package admin

import (
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// A Source says what the process is doing. Status is called for each request, by several
// goroutines at once, and must answer from memory.
type Source interface {
	Status() Status
	Waiter
	LetterLister
}

// A Status is what the process is doing at a moment. Nothing in it is a secret.
type Status struct {
	Version string // of Tidemark
	Product string // what is written to: "OpenSearch 3.3.2"

	// Failure is why the process cannot go on and is about to end, "" while it can.
	Failure string

	// Hang says which part of the process gives no sign of life although one is due, nil if none does.
	Hang *Alarm

	Slot         string
	Connected    bool          // to the slot; false as well while another process has it
	Confirmed    pglogrepl.LSN // up to where everything is stored
	WALEnd       pglogrepl.LSN // where the server's log ended when it was last heard of; 0: never
	NewestCommit time.Time     // when the newest transaction that is stored was committed; zero: none since the start

	// Behind is for how long what is not stored has been in the log; 0 where everything that is known
	// of is stored, -1 while that is not known. It grows also while nothing moves.
	Behind time.Duration

	WAL WAL

	QueueMessages, QueueBytes int64 // received and not confirmed
	Changes, Batches          int64 // stored, see [dbsync.Status]

	// ReadyWhileUnproven has an index that may differ from its tables be no reason against being
	// ready.
	ReadyWhileUnproven bool

	Indices []Index
	Alarms  []Alarm
	Bulk    Bulk
	Topics  []Topic // that operations go through, one for each cluster; none: they go to the cluster

	// Letters are the first dead letters of these indices, in order of time; there may be more, see
	// Index.DeadLetters.
	Letters []Letter

	Measures *Measures // nil: none
}

// A WAL is what the server keeps of its log for the slot, as of the last look. The zero value: it
// has not been looked at.
type WAL struct {
	At     time.Time // of the look
	Kept   int64     // bytes
	Left   int64     // bytes that may still come before the server gives the slot up; -1: it never does
	Status string    // wal_status of the slot: reserved, extended, unreserved, lost
}

// A Letter is a dead letter.
type Letter struct {
	Row       int64  // its number in the control schema
	Index     string // the alias
	Physical  string
	ID        string
	Routing   string
	Delete    bool   // what was refused is the deletion of the document
	Position  string // in the log
	Status    int    // of HTTP
	Type      string // of the error, in the server's words
	Reason    string // likewise
	Attempts  int
	CreatedAt time.Time
}

// An Index is one index of the mapping file.
type Index struct {
	Name         string // the alias
	Physical     string // the index in use, "" while the first one is filled
	Building     string // the index that is filled, "" if none is
	State        State
	RowsDone     int64 // of the backfill under way, or of the last one
	RowsExpected int64 // an estimate of all of them; -1: none
	DeadLetters  int64

	Documents int64 // that searchers see; -1: not known
	Rows      int64 // of its tables, an estimate of the catalog's; -1: not known

	// Changes of its own tables that the stream has brought, and rows that backfills have stored,
	// since the process began. They only grow.
	Changes, Filled int64

	// RowsPerSecond is how fast the backfill under way was lately, 0 if that is not known or
	// none is.
	RowsPerSecond float64

	Proof Proof

	// FanOut is what is stored again beside the stream, since related rows have changed.
	FanOut control.FanOutSum
}

// A State says what is done with an index.
type State string

const (
	Backfilling State = "backfilling" // it is filled for the first time, searchers see nothing yet
	Live        State = "live"        // it is complete and kept equal to its tables
	Rebuilding  State = "rebuilding"  // it is live, and a new physical index is filled beside it
	Incomplete  State = "incomplete"  // it is in use and misses changes; another one is filled, or is going to be
	Missing     State = "missing"     // nothing is there; a running instance has no such index
)

var states = []State{Backfilling, Live, Rebuilding, Incomplete}

// An Alarm is one thing that holds writing back.
type Alarm struct {
	Key   string // names the condition
	Text  string // what happened, and its hint
	Since time.Time
}

// Bulk counts what was written since the start, and says how it is. The counts only grow.
type Bulk struct {
	Stored, Deleted int64                  // documents
	Superseded      int64                  // operations that found a newer version
	Refused         int64                  // operations refused for good
	Retried         map[search.Cause]int64 // operations sent again
	Requests        int64
	FailedRequests  int64 // of these, the ones without a 2xx answer
	Rejected        int64 // requests that the server had no room for, or not for some of their operations: 429
	Bytes           int64 // of bodies as sent
	RawBytes        int64 // of bodies before compression

	RequestsAtATime, RequestBytes int // how many requests go at a time at the moment, and how large one may be
}

// NewBulk returns what a Bulk has written, and how it does.
func NewBulk(counts *search.Stats, pace search.Pace) Bulk {
	b := Bulk{
		Stored: counts.Stored.Load(), Deleted: counts.Deleted.Load(), Superseded: counts.Superseded.Load(),
		Refused: counts.Refused.Load(), Retried: make(map[search.Cause]int64),
		Requests: counts.Requests.Load(), FailedRequests: counts.Failed.Load(), Rejected: counts.Rejected.Load(),
		RequestsAtATime: pace.Requests, RequestBytes: pace.Bytes,
		Bytes: counts.Bytes.Load(), RawBytes: counts.RawBytes.Load(),
	}
	for _, cause := range search.Causes() {
		b.Retried[cause] = counts.Retried.Of(cause)
	}
	return b
}

// A Topic is that which operations go through on their way to the workers that write them.
type Topic struct {
	Name, Group     string
	Produced, Bytes int64 // operations that Kafka has acknowledged since the start; they only grow
	Lag             int64 // operations that are not applied; -1: not known
	Workers         int   // that the group has; as of the same look

	// Cluster is the name of the cluster beside the first one; "": the first. Problems are what is wrong with it, which
	// holds nobody else up.
	Cluster  string
	Problems []string
}

// Lag is how much of the log is not stored yet, in bytes; false while the server's
// position is not known.
func (s *Status) Lag() (int64, bool) {
	if s.WALEnd == 0 || s.Confirmed == 0 {
		return 0, false
	}
	return max(0, int64(s.WALEnd)-int64(s.Confirmed)), true
}

// unhealthy says why the process does not work, nil if it does.
func (s *Status) unhealthy() []string {
	var reasons []string
	if s.Failure != "" {
		reasons = append(reasons, s.Failure)
	}
	if s.Hang != nil {
		reasons = append(reasons, s.Hang.Key+": "+s.Hang.Text)
	}
	return reasons
}

// unready says why searchers may not see what the tables hold, nil if they do. An index
// that is rebuilt is served by the one before meanwhile.
func (s *Status) unready() []string {
	reasons := s.unhealthy()
	if !s.Connected {
		reasons = append(reasons, fmt.Sprintf("not connected to slot %s", s.Slot))
	}
	for _, ix := range s.Indices {
		// While another process has the slot, nothing is known of an index, see service.indexStatus.
		if ix.State == Backfilling && (s.Connected || ix.Building != "") {
			reasons = append(reasons, "index "+ix.Name+" is backfilling: "+ix.rows())
		}
		if ix.State == Incomplete {
			reason := "index " + ix.Name + " is incomplete: changes are missing in it until another physical index is filled"
			if ix.Building != "" {
				reason += ", of which there are " + ix.rows()
			}
			reasons = append(reasons, reason)
		}
		if ix.Proof.IsUnproven() && !s.ReadyWhileUnproven {
			reasons = append(reasons, "index "+ix.Name+" is "+ix.Proof.Summary())
		}
	}
	for _, a := range s.Alarms {
		reasons = append(reasons, a.Key+": "+a.Text)
	}
	return reasons
}

func (i *Index) rows() string {
	if i.RowsExpected < 0 {
		return fmt.Sprintf("%d rows", i.RowsDone)
	}
	return fmt.Sprintf("%d of about %d rows", i.RowsDone, i.RowsExpected)
}
