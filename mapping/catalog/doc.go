// Package catalog holds what the catalog of Postgres says about tables: [LoadTable] reads a
// [Table] with its columns, their types down to what those are made of, its keys and its
// replica identity, in one query. Beside it are the names of tables and columns, as people
// write them and as SQL takes them.
//
// Of Tidemark it imports only how a dotted name is taken apart.
package catalog
