package mapping

import "testing"

// TestPlaces finds the line of a path that the file does not have by what is around it.
func TestPlaces(t *testing.T) {
	_, err := Parse("t.yaml", []byte(`search: {urls: [http://h]}
indices:
  a.b:
    tables:
      - table: t
        id:
          - x
          - y
        fields: [x,
          y]
      - {table: u, id: "u-{id}"}
`), env())
	if err == nil {
		t.Fatal("two tables may have the same _id")
	}
	if p := err.(Problems)[0]; p.Line != 11 {
		t.Errorf("the problem of the second table is %s", p)
	}
	c, err := Parse("t.yaml", []byte(`search: {urls: [http://h]}
indices:
  a.b:
    table: t
    id:
      - x
      - y
    fields: [x,
      y]
`), env())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"indices.a.b": 3, "indices.a.b.table": 4, "indices.a.b.where": 3, "indices.a.b.id": 5, "indices.a.b.id[0]": 6, "indices.a.b.id[1]": 7, "indices.a.b.id[2]": 5,
		"indices.a.b.fields.x": 8, "indices.a.b.fields.y": 9, "indices.a.b.fields[1]": 9, "indices.a.b.fields.z.expr": 8, "indices": 2, "postgres.url": 0, "": 0,
	} {
		if got := c.places.line(path); got != want {
			t.Errorf("%s is in line %d, want %d", path, got, want)
		}
	}
}
