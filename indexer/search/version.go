package search

import (
	"fmt"
	"math"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
)

// The version of a document is made here and nowhere else. It is a positive number of 63 bits,
// which the search server compares:
//
//	commit: 49 bits    group: 13 bits    stored: 1 bit
//
// The commit counts steps of 32 bytes of the log from the base of the index on, which is a position
// that the log had when the index was made. A commit record takes 40 bytes or more (24 of
// XLogRecord, 2 of a block's header, 8 of xl_xact_commit, aligned to 8), so two commits are never
// in one step. 49 bits reach 16 PiB of log.
//
// The group is the part of the transaction, see [dbsync.Syncer.Group]. 13 bits reach 67 million
// changes or 32 GiB of them; what a transaction has beyond is of its last group, see [MaxGroup].
//
// A deletion is older than a storing of the same group. A batch has whole groups, so of a group
// one operation is left for each document, by id and routing. Two routings of one id may lead to
// one shard, where they are one document: then a row has left one routing for the other, and its
// document is the one that is stored.
//
// docs/versions.md says why no order of writes leaves an older document.
const (
	groupBits  = 13
	commitBits = 63 - 1 - groupBits
	commitStep = 32

	// MaxGroup is the last group of a transaction that has a version of its own. What the changes
	// after it leave behind has to be compared with the tables: of two writes of one document in
	// them that come in the wrong order the server takes the one that comes last.
	MaxGroup = 1<<groupBits - 1

	// MaxSpan is how many bytes of log there may be after the base of an index. Writing stops with
	// a [VersionError] beyond it; an index is made anew long before.
	MaxSpan = (1<<commitBits - 1) * commitStep
)

// Version returns the version of an operation, or a [*VersionError]. What was committed before the base of the index is
// older than the index: of all such operations the version is 0, and the one that comes last
// counts, until the chunks of the index bring what they have led to.
func Version(op *dbsync.Operation) (int64, error) {
	if op.Version < op.Base {
		return 0, nil
	}
	if op.Version-op.Base >= MaxSpan {
		return 0, &VersionError{Index: op.Index, Position: op.Version, Base: op.Base}
	}
	v := int64(op.Version-op.Base)/commitStep + 1
	v = v<<groupBits | int64(min(op.Group, MaxGroup))
	v <<= 1
	if op.Kind == dbsync.Store {
		v |= 1
	}
	return v, nil
}

// GroupOf returns the group that a version names, see [dbsync.Operation].
func GroupOf(version int64) uint32 { return uint32(version>>1) & MaxGroup }

// Position returns where in the log the commit is that a document of this version was stored by,
// less than 32 bytes before it. base is that of its index. Documents of a program that had the
// position itself as version seem to be of the log's beginning.
func Position(version int64, base pglogrepl.LSN) pglogrepl.LSN {
	commit := version >> (groupBits + 1)
	if commit <= 0 {
		return base
	}
	return base + pglogrepl.LSN((commit-1)*commitStep)
}

// RemovalOf returns the deletion of a document that has this version: it is newer than the
// document, and older than whatever is stored after it. base is that of its index.
func RemovalOf(index string, document Stored, base pglogrepl.LSN) dbsync.Operation {
	next := document.Version | 1
	if next < math.MaxInt64 {
		next++
	}
	next = max(next, 1<<(groupBits+1))
	return dbsync.Operation{Kind: dbsync.Delete, Index: index, ID: document.ID, Routing: document.Routing,
		Version: Position(next, base), Group: GroupOf(next), Base: base}
}

// A VersionError reports a position of the log that is too far from where the versions of an index
// begin.
type VersionError struct {
	Index          string
	Position, Base pglogrepl.LSN
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("index %s: a change at %s has no version, which reach %d TiB of log from %s on; hint: tidemark reindex makes an index whose versions begin anew",
		e.Index, e.Position, MaxSpan>>40, e.Base)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *VersionError) Permanent() bool { return true }
