package mapping

import "tidemark/mapping/catalog"

// The form of a stored index without a version, with the names that the fields had in Go:
// what Tidemark wrote until forms got versions. It can go when nobody upgrades from there
// any more; [DecodeIndex] then refuses it, and the index is rebuilt.

type indexBefore struct {
	Name               string
	Sources            []sourceBefore
	Settings, Mappings map[string]any
	Reindex            struct{ Chunk, KeepOld, MaxRowsPerSecond int } // passed over
}

type sourceBefore struct {
	Table          nameBefore
	ID             []string
	Routing, Where string
	Literals       []string
	shapeBefore
}

type nameBefore struct{ Schema, Name string }

type shapeBefore struct {
	Fields  []fieldBefore
	Listed  bool
	Include []includeBefore
}

type fieldBefore struct {
	Name     string
	Omit     bool
	Column   string
	As       string
	Params   map[string]any
	Expr     string
	Constant *struct{ Value any }
	Group    []fieldBefore
}

type includeBefore struct {
	Name    string
	Table   nameBefore
	On      []pairBefore
	Through *struct {
		Table nameBefore
		To    []pairBefore
	}
	Many, Value, Aggregate, Column string
	OrderBy                        []orderBefore
	Limit                          int
	Where                          string
	shapeBefore
}

type pairBefore struct{ Near, Far string }

type orderBefore struct {
	Column                 string
	Descending, NullsFirst bool
}

func (ix *indexBefore) index() *Index {
	return &Index{Name: ix.Name, Sources: mapAll(ix.Sources, sourceBefore.source), Settings: readMap(ix.Settings), Mappings: readMap(ix.Mappings)}
}

func (s sourceBefore) source() *Source {
	return &Source{Table: catalog.TableName(s.Table), ID: s.ID, Routing: s.Routing, Where: s.Where, Literals: s.Literals, Shape: s.shape()}
}

func (s shapeBefore) shape() Shape {
	return Shape{Fields: mapAll(s.Fields, fieldBefore.field), Listed: s.Listed, Include: mapAll(s.Include, includeBefore.include)}
}

func (f fieldBefore) field() Field {
	field := Field{Name: f.Name, Omit: f.Omit, Column: f.Column, As: f.As, Params: readMap(f.Params), Expr: f.Expr, Group: mapAll(f.Group, fieldBefore.field)}
	if f.Constant != nil {
		field.Constant = &Constant{readValue(f.Constant.Value)}
	}
	return field
}

func (in includeBefore) include() *Include {
	include := &Include{
		Name: in.Name, Table: catalog.TableName(in.Table), On: mapAll(in.On, pairBefore.pair),
		Many: Many(in.Many), Value: in.Value, Aggregate: Aggregate(in.Aggregate), Column: in.Column,
		OrderBy: mapAll(in.OrderBy, orderBefore.order), Limit: in.Limit, Where: in.Where,
		Shape: in.shape(),
	}
	if in.Through != nil {
		include.Through = &Link{Table: catalog.TableName(in.Through.Table), To: mapAll(in.Through.To, pairBefore.pair)}
	}
	return include
}

func (p pairBefore) pair() Pair    { return Pair(p) }
func (o orderBefore) order() Order { return Order(o) }
