// Package value turns the values of Postgres' types into what documents hold. A [Form] says
// for one type how the text of a value becomes JSON ([Form.Encode]), by which SQL Postgres
// itself makes the same JSON ([Form.SQL]), and what field of an index takes it ([Form.Field]).
// [FormOf] returns that of a type, [FormFor] the one that the mapping asks for by as. Every
// type has a form.
//
// Expressions work on Go values: a [Decoder] reads one from text, [Append] writes one as JSON.
package value
