package search

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// An Owner is who keeps a physical index equal to tables: one slot of one database, by one control
// schema. Two owners are the same if they are so in all but the name of the database.
type Owner struct {
	System   string `json:"system"`       // identifier of the database system, see [dbsync.Syncer.System]
	Database string `json:"database"`     // its name, for people: a database that is renamed stays the same
	Oid      uint32 `json:"database_oid"` // one that is restored from a dump is another one
	Schema   string `json:"schema"`       // the control schema
	Slot     string `json:"slot"`
}

// Is reports whether both are the same owner.
func (o Owner) Is(other Owner) bool {
	o.Database, other.Database = "", ""
	return o == other
}

func (o Owner) String() string {
	return fmt.Sprintf("slot %s of database %s (oid %d of system %s, control schema %s)", o.Slot, o.Database, o.Oid, o.System, o.Schema)
}

// A Mark is noted with a physical index on both sides, in the index and in the control schema, and
// renewed on both again and again. Where the two sides differ one of them was set back.
type Mark struct {
	Number int64  `json:"number"` // grows by one each time
	Token  string `json:"token"`  // random: two that went on from the same number have others
}

// A Stamp is what Tidemark keeps in a physical index, as the key [StampKey] of mappings._meta.
type Stamp struct {
	Version int `json:"version"` // of this form
	Owner
	Fingerprint string `json:"fingerprint"`        // of what its documents are made by, when it was made
	Position    string `json:"position,omitempty"` // up to which it was complete when the mark was renewed; "" before it is
	Mark        Mark   `json:"mark"`
}

const (
	// StampKey is the key of mappings._meta that holds a [Stamp]. Other keys are the user's.
	StampKey = "tidemark"

	stampVersion = 1
)

// Stamped returns the body of the creation of an index with a stamp in it, beside what
// mappings._meta has otherwise. body is settings and mappings as JSON.
func Stamped(body []byte, stamp Stamp) ([]byte, error) {
	parts, mappings, meta := map[string]json.RawMessage{}, map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &parts); err != nil {
			return nil, fmt.Errorf("settings and mappings are not a JSON object: %w", err)
		}
	}
	for _, inner := range []struct {
		of   map[string]json.RawMessage
		key  string
		into *map[string]json.RawMessage
	}{{parts, "mappings", &mappings}, {mappings, "_meta", &meta}} {
		if text, ok := inner.of[inner.key]; ok {
			if err := json.Unmarshal(text, inner.into); err != nil {
				return nil, fmt.Errorf("%s are not a JSON object: %w", inner.key, err)
			}
		}
	}
	stamp.Version = stampVersion
	var err error
	if meta[StampKey], err = json.Marshal(stamp); err != nil {
		return nil, err
	}
	if mappings["_meta"], err = json.Marshal(meta); err != nil {
		return nil, err
	}
	if parts["mappings"], err = json.Marshal(mappings); err != nil {
		return nil, err
	}
	return json.Marshal(parts)
}

// stampOf returns the stamp in mappings._meta, nil if there is none. One that cannot be read is
// somebody else's: its owner is none of ours.
func stampOf(meta json.RawMessage) *Stamp {
	var keys map[string]json.RawMessage
	if json.Unmarshal(meta, &keys) != nil || keys[StampKey] == nil {
		return nil
	}
	stamp := &Stamp{}
	if err := json.Unmarshal(keys[StampKey], stamp); err != nil {
		return &Stamp{}
	}
	return stamp
}

// An OwnerError reports that an index, or a name, in the cluster is somebody else's.
type OwnerError struct {
	Indices []string // those of somebody else
	Owner   *Owner   // of the first one; nil if it has no stamp
	Behind  bool     // the alias stands for them; or else they have names as of ours
}

func (e *OwnerError) Error() string {
	return e.Text() + "; hint: " + e.Hint()
}

// Text says what was found.
func (e *OwnerError) Text() string {
	whose := "which somebody else made"
	if e.Owner != nil {
		whose += ": " + e.Owner.String()
	}
	if e.Behind {
		return fmt.Sprintf("the alias stands for %s, %s", strings.Join(e.Indices, ", "), whose)
	}
	return fmt.Sprintf("there is %s already, %s", strings.Join(e.Indices, ", "), whose)
}

// Hint says what to do.
func (e *OwnerError) Hint() string {
	before := ""
	if e.Behind {
		before = "remove the alias from what it should not stand for, or "
	}
	return before + "give the mapping another name, or another cluster, or let run --adopt backfill an index and move the alias to it; that is right after a restore into another database or by pg_upgrade, too, if the old database is gone"
}

// Permanent marks it for dbsync.IsPermanent.
func (e *OwnerError) Permanent() bool { return true }

// A NameTakenError reports that the name searchers are to use belongs to an index, or a data
// stream, so that it cannot become an alias.
type NameTakenError struct {
	Name       string
	DataStream bool   // it cannot be replaced at all
	Owner      *Owner // of an index that has a stamp of somebody else, so that it is never deleted
}

func (e *NameTakenError) Error() string { return e.Text() + "; hint: " + e.Hint() }

// Text says what was found.
func (e *NameTakenError) Text() string {
	switch {
	case e.DataStream:
		return e.Name + " is a data stream of the cluster, or an alias of one, and cannot become an alias of an index"
	case e.Owner != nil:
		return fmt.Sprintf("%s is an index of the cluster already, and cannot become an alias; somebody else keeps it: %s", e.Name, e.Owner)
	}
	return e.Name + " is an index of the cluster already, and cannot become an alias"
}

// Hint says what to do.
func (e *NameTakenError) Hint() string {
	if e.DataStream || e.Owner != nil {
		return "give the mapping another name"
	}
	return "give the mapping another name, or copy that index to a new name and delete it, or let run --adopt fill another one and delete it then"
}

// Permanent marks it for dbsync.IsPermanent.
func (e *NameTakenError) Permanent() bool { return true }

// A Standing is all that the cluster has under the name of an index: what has the name, what is
// behind it, and physical indices that were made for it, by whomever.
type Standing struct {
	Alias   string
	Indices []*IndexInfo // in order of name
}

// Get returns an index, nil if it is not there.
func (s *Standing) Get(name string) *IndexInfo {
	for _, i := range s.Indices {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// Behind are the indices that the alias stands for.
func (s *Standing) Behind() []*IndexInfo {
	return s.those(func(i *IndexInfo) bool { return i.HasAlias(s.Alias) })
}

// Physical are the indices that have names as [PhysicalName] gives them.
func (s *Standing) Physical() []*IndexInfo {
	return s.those(func(i *IndexInfo) bool { return isPhysical(s.Alias, i.Name) })
}

func (s *Standing) those(wanted func(*IndexInfo) bool) (found []*IndexInfo) {
	for _, i := range s.Indices {
		if wanted(i) {
			found = append(found, i)
		}
	}
	return found
}

// CheckName returns a *[NameTakenError] when the alias cannot be made, or only by deleting an
// index while adopt is not set.
func (s *Standing) CheckName(adopt bool) error {
	for _, i := range s.Indices {
		if i.DataStream != "" && (i.DataStream == s.Alias || i.HasAlias(s.Alias)) {
			return &NameTakenError{Name: s.Alias, DataStream: true}
		}
	}
	taken := s.Get(s.Alias)
	switch {
	case taken == nil:
		return nil
	case taken.Stamp != nil:
		return &NameTakenError{Name: s.Alias, Owner: &taken.Stamp.Owner}
	case !adopt:
		return &NameTakenError{Name: s.Alias}
	}
	return nil
}

// CheckOwner returns an *[OwnerError] when the alias stands for an index that is not the
// owner's, or, where it stands for none of the owner's, when there is a physical index of somebody
// else. ours reports whether an index without a stamp is known to be the owner's all the same.
func (s *Standing) CheckOwner(owner Owner, ours func(*IndexInfo) bool) error {
	behind := s.Behind()
	if err := s.foreign(behind, owner, ours, true); err != nil || len(behind) > 0 {
		return err // what somebody else has had before the name was taken over is not looked at
	}
	return s.foreign(s.Physical(), owner, ours, false)
}

func (s *Standing) foreign(indices []*IndexInfo, owner Owner, ours func(*IndexInfo) bool, behind bool) error {
	e := &OwnerError{Behind: behind}
	for _, i := range indices {
		if i.IsOf(owner) || i.Stamp == nil && isPhysical(s.Alias, i.Name) && ours(i) {
			continue
		}
		if e.Indices = append(e.Indices, i.Name); i.Stamp != nil && e.Owner == nil {
			e.Owner = &i.Stamp.Owner
		}
	}
	if len(e.Indices) == 0 {
		return nil
	}
	return e
}

// none is for where every index of the owner has its stamp.
func none(*IndexInfo) bool { return false }

// sortByName sorts what a JSON object held.
func sortByName(indices []*IndexInfo) {
	slices.SortFunc(indices, func(a, b *IndexInfo) int { return strings.Compare(a.Name, b.Name) })
}
