package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// digestQuery gives one number that is another one, but for a chance of 2^-64, when a row of the
// catalog that tables, their partitions and children, their types or the publication are made of
// was changed since: each row has the transaction that wrote it, xmin, which VACUUM and ANALYZE
// leave as it is. It reads by indexes alone, so tables that nobody asks for cost nothing, and takes
// no lock.
//
// Its parameters are the schemas and names of tables, the oids of their types, and the publication.
const digestQuery = `
WITH RECURSIVE rel AS MATERIALIZED (
	SELECT c.oid FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) w(schema, name)
	JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
	JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), tree AS (
	SELECT oid, 0::int8 AS mark FROM rel
	UNION ALL SELECT i.inhrelid, pg_catalog.hashtextextended(i.xmin::text, i.inhparent::int8)
	FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
), pub AS MATERIALIZED (
	SELECT oid, xmin FROM pg_catalog.pg_publication WHERE pubname = $4
)
SELECT coalesce(pg_catalog.sum(mark), 0)::text FROM (
	SELECT mark FROM tree
	UNION ALL SELECT pg_catalog.hashtextextended(c.xmin::text || ' ' || c.relfilenode || ' ' || c.relnamespace, c.oid::int8)
	FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
	UNION ALL SELECT pg_catalog.hashtextextended(c.relfilenode::text, c.oid::int8)
	FROM rel JOIN pg_catalog.pg_class r ON r.oid = rel.oid JOIN pg_catalog.pg_class c ON c.oid = r.reltoastrelid
	UNION ALL SELECT pg_catalog.hashtextextended(a.xmin::text, a.attnum + 65536 * a.attrelid::int8)
	FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0
	UNION ALL SELECT pg_catalog.hashtextextended(d.xmin::text, d.oid::int8)
	FROM rel JOIN pg_catalog.pg_attrdef d ON d.adrelid = rel.oid
	UNION ALL SELECT pg_catalog.hashtextextended(i.xmin::text, i.indexrelid::int8)
	FROM tree JOIN pg_catalog.pg_index i ON i.indrelid = tree.oid
	UNION ALL SELECT pg_catalog.hashtextextended(t.xmin::text || n.nspname, t.oid::int8)
	FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY ($3::oid[])
	UNION ALL SELECT pg_catalog.hashtextextended(l.xmin::text, l.oid::int8)
	FROM pg_catalog.pg_enum l WHERE l.enumtypid = ANY ($3::oid[])
	UNION ALL SELECT pg_catalog.hashtextextended(a.xmin::text, a.attnum + 65536 * a.attrelid::int8)
	FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
	WHERE t.oid = ANY ($3::oid[]) AND t.typtype = 'c'
	UNION ALL SELECT pg_catalog.hashtextextended(pub.xmin::text, pub.oid::int8) FROM pub
	UNION ALL SELECT pg_catalog.hashtextextended(r.xmin::text, r.oid::int8)
	FROM pub CROSS JOIN tree JOIN pg_catalog.pg_publication_rel r ON r.prrelid = tree.oid AND r.prpubid = pub.oid
	UNION ALL SELECT pg_catalog.hashtextextended(d.xmin::text, d.objid::int8)
	FROM pub JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass AND d.refobjid = pub.oid
		AND d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') -- the schemas that it is for
	UNION ALL SELECT pg_catalog.hashtextextended(pg_catalog.row_security_active(rel.oid)::text, rel.oid::int8) -- by attributes and memberships of the role
	FROM rel
) marks(mark)`

// A Digest asks whether the catalog has changed, cheaply: for whoever asks every few seconds.
type Digest struct {
	schemas, names []string
	types          []int64
	publication    string
}

// NewDigest returns a Digest of the tables of these names, there or not, of all that they and
// their types are made of, as tables has it, and of a publication and what it says of them.
func NewDigest(names []TableName, tables Tables, publication string) *Digest {
	d := &Digest{publication: publication}
	types := make(map[uint32]bool)
	for _, name := range names {
		d.schemas, d.names = append(d.schemas, name.Schema), append(d.names, name.Name)
		if t := tables[name]; t != nil {
			for i := range t.Columns {
				t.Columns[i].Type.collect(types)
			}
		}
	}
	for _, oid := range slices.Sorted(maps.Keys(types)) {
		d.types = append(d.types, int64(oid))
	}
	return d
}

// Equal reports whether two digests are of the same tables, types and publication.
func (d *Digest) Equal(other *Digest) bool {
	return slices.Equal(d.schemas, other.schemas) && slices.Equal(d.names, other.names) && slices.Equal(d.types, other.types) && d.publication == other.publication
}

// collect adds the oids of a type and of all that it is made of. Those of Postgres' own do not
// change.
func (t *Type) collect(into map[uint32]bool) {
	if t == nil || into[t.OID] {
		return
	}
	if t.OID >= firstNormalOID {
		into[t.OID] = true
	}
	t.Elem.collect(into)
	t.Base.collect(into)
	for _, a := range t.Attributes {
		a.Type.collect(into)
	}
}

// firstNormalOID is the first oid that is given to what users make: FirstNormalObjectId in
// access/transam.h.
const firstNormalOID = 16384

// Read returns the digest now: a text that is the same as long as nothing was changed.
func (d *Digest) Read(ctx context.Context, q Querier) (string, error) {
	rows, err := q.QueryContext(ctx, digestQuery, d.schemas, d.names, d.types, d.publication)
	if err != nil {
		return "", fmt.Errorf("look whether the catalog has changed: %w", err)
	}
	defer rows.Close()
	var digest string
	for rows.Next() {
		if err := rows.Scan(&digest); err != nil {
			return "", fmt.Errorf("look whether the catalog has changed: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("look whether the catalog has changed: %w", err)
	}
	return digest, nil
}
