package dbsync

import "github.com/jackc/pglogrepl"

// A transaction is written in groups of its changes, so that a large one need not be held whole,
// and no group is ever written in parts. Where a group ends follows from the changes before it in
// its transaction, and from nothing else: not from when they arrive, nor from what else is in the
// batch. So a transaction that comes again, to this process or to another one, is cut alike, and
// of what two groups do to one document it is always the same one that is newer.
//
// A group has MaxMessagesToRead changes, or as many as have batchBytes of messages.

// A grouper counts the changes of a transaction.
type grouper struct {
	max             bounds // of a group; the change that reaches one is its last
	group           uint32
	messages, bytes int // of the group so far
}

// add puts the next message of the stream into its group.
//
// Changes alone count. What describes tables and types is sent once in each session, and what
// sessions write into the log is sent to those who ask for it: a replay may have other ones.
func (g *grouper) add(m *message) {
	switch m.kind {
	case pglogrepl.MessageTypeBegin:
		*g = grouper{max: g.max}
	case pglogrepl.MessageTypeCommit:
		m.group, m.last = g.group, true
		if g.messages == 0 && g.group > 0 {
			m.group-- // of the last change
		}
		*g = grouper{max: g.max}
		return
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete, pglogrepl.MessageTypeTruncate:
		g.messages++
		g.bytes += len(m.data)
	}
	m.group = g.group
	if g.messages >= g.max.messages || g.bytes >= g.max.bytes {
		m.last = true
		*g = grouper{max: g.max, group: g.group + 1}
	}
}
