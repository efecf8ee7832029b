package reindex

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tidemark/reindex/control"
)

// checkAlias makes sure that searchers see the index that is kept.
func (m *Manager) checkAlias(ctx context.Context, st *control.State) error {
	of, err := m.o.Client.AliasTargets(ctx, st.Name)
	if err != nil || slices.Equal(of, []string{st.Live.Physical}) {
		return err
	}
	if len(of) > 0 {
		return &aliasElsewhereError{Alias: st.Name, Of: of, Live: st.Live.Physical}
	}
	m.o.Logger.Warn("the alias was gone, it is put back", "index", st.Name, "physical", st.Live.Physical)
	_, err = m.o.Client.MoveAlias(ctx, st.Name, st.Live.Physical, m.owner)
	return err
}

// An aliasElsewhereError reports that searchers do not see the index that is kept.
type aliasElsewhereError struct {
	Alias string
	Of    []string // what it stands for
	Live  string
}

func (e *aliasElsewhereError) Error() string {
	return fmt.Sprintf("the alias stands for %s, and not for %s, which is kept equal to the table; "+
		"hint: remove the alias, then it is put back, or give the mapping another name", strings.Join(e.Of, ", "), e.Live)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *aliasElsewhereError) Permanent() bool { return true }

// isAliasElsewhere reports whether an error says that the alias is somebody else's matter.
func isAliasElsewhere(err error) bool { return is[*aliasElsewhereError](err) || IsRefusal(err) }
