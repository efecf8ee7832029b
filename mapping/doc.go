// Package mapping reads the YAML that says which tables become which indices, checks it
// against the catalog of the database, and compiles it into plans that turn rows into
// documents. What it stands on has rooms of its own: catalog has what Postgres says of
// tables, value how a value of a type looks in a document and in an index, expr the
// expressions of where and expr, near the name that was probably meant.
//
// [Read] is strict: an unknown or repeated key, a value of the wrong type or out of bounds,
// a ${…} without a value is a [Problem]. It reports all [Problems] of a file at once, each
// with file, line and hint, and none shows a secret. [Config.Check] does the same for what
// only the catalog tells, which [catalog.LoadTable] reads: tables and columns that do not
// exist, keys and replica identities by which deletes could not be found.
//
// [Compile] makes the [Plan] of one relation, which goes from the text of columns to JSON
// bytes without a value in between. The same types decide the fields of the index,
// [Index.Body].
//
// A document may hold rows of other tables, an [Include] each: [Source.Select] writes the
// statement by which Postgres makes them, [Source.Find] the one that finds the documents a
// change of such a row concerns.
//
// What outlives the process is the text of an index, [Index.Encode] and [DecodeIndex], and the
// [Index.Fingerprint] of all that its documents are made of. Both have versions, and those
// of earlier ones are recognised ([Index.Matches]): an upgrade costs no rebuild unless
// documents would differ.
package mapping
