package mapping

import "tidemark/mapping/catalog"

// Reads returns the columns whose values are in the documents of the index, or decide which
// documents there are, and where: by table, and by the name that they have there. Those that say
// in what order rows of other tables are put in are among them.
func (ix *Index) Reads(tables catalog.Tables) map[catalog.TableName]map[string]bool {
	r := make(reads)
	for _, s := range ix.Sources {
		t := tables[s.Table]
		if t == nil {
			continue
		}
		f := s.fingerprint(tables)
		r.add(s.Table, f.ID...)
		if f.Routing != nil {
			r.add(s.Table, *f.Routing)
		}
		if f.Only != nil {
			r.add(s.Table, f.Only.Column)
		}
		r.expr(s.Table, f.Where)
		r.object(s.Table, &s.Shape, &f.fingerprintOfObject, tables)
	}
	return r
}

type reads map[catalog.TableName]map[string]bool

func (r reads) add(table catalog.TableName, columns ...fingerprintColumn) {
	for _, c := range columns {
		if r[table] == nil {
			r[table] = make(map[string]bool)
		}
		r[table][c.Name] = true
	}
}

func (r reads) expr(table catalog.TableName, e *fingerprintExpr) {
	if e != nil {
		r.add(table, e.Reads...)
	}
}

// object adds what objects of rows of a table are made of. s and f are of the same object.
func (r reads) object(table catalog.TableName, s *Shape, f *fingerprintOfObject, tables catalog.Tables) {
	for _, field := range f.Fields {
		if field.Column != nil {
			r.add(table, *field.Column)
		}
		r.expr(table, field.Expr)
	}
	for _, in := range s.Include {
		r.include(table, in, tables)
	}
}

// include adds what an include in rows of the table outer is made of.
func (r reads) include(outer catalog.TableName, in *Include, tables catalog.Tables) {
	f := in.fingerprint(tables[outer], tables)
	far, link := in.Table, in.Table
	if in.Through != nil {
		link = in.Through.Table
	}
	for _, p := range f.On {
		r.add(outer, p.Near)
		r.add(link, p.Far)
	}
	for _, p := range f.To {
		r.add(link, p.Near)
		r.add(far, p.Far)
	}
	r.add(far, f.Reads...)
	if f.Of != nil {
		r.add(far, *f.Of)
	}
	if f.Rows != nil {
		if len(f.Rows.Key) == 0 { // rows are ordered by all columns
			for _, c := range tables[far].Columns {
				r.add(far, columnOf(tables[far], c.Name))
			}
		}
		r.add(far, f.Rows.Key...)
		r.add(link, f.Rows.LinkKey...)
		for _, o := range f.Rows.Order {
			of := far
			if tables[far].Column(o.Name) == nil {
				of = link
			}
			r.add(of, o.fingerprintColumn)
		}
	}
	if f.Object != nil {
		r.object(far, &in.Shape, f.Object, tables)
	}
}
