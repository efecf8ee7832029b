package verify

// Progress shows how far the filling of indices is.
type Progress interface {
	// Begin is called when the filling of an index begins or goes on, with the rows that
	// are stored already and an estimate of all of them, -1 if there is none.
	Begin(index string, done, total int64) Bar
}

// Bar shows one index.
type Bar interface {
	Add(rows int64)
	Done()
	Stop() // without having come to the end
}
