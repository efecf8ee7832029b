package verify

// Progress shows how far a backfill or a verification of each index is.
type Progress interface {
	// Begin is called when work on an index begins or goes on.
	Begin(index string, rows Rows) Bar
}

// Rows says how far work on an index is when it begins.
type Rows struct {
	Stored    int64 // that need no more work: an earlier process has done it
	Estimated int64 // of all rows; -1: not known
}

// Bar shows one index.
type Bar interface {
	Add(rows int64)
	Done()
	Stop() // without having come to the end
}

// NoProgress shows nothing.
type NoProgress struct{}

func (NoProgress) Begin(string, Rows) Bar { return NoProgress{} }
func (NoProgress) Add(int64)              {}
func (NoProgress) Done()                  {}
func (NoProgress) Stop()                  {}
