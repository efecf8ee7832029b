package mapping

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDescribe says what documents are made of, as people read it.
func TestDescribe(t *testing.T) {
	ix := indexIn(t, `
  a:
    table: products
    fields:
      up: {expr: title + "a"}
      Label: {column: title}
      size: {fields: {w: {column: width}, deep: {fields: {t: {constant: 1}}}}}
    include:
      category: {table: categories, on: {category_id: id}, fields: [name], include: {parent: {table: categories, on: {parent_id: id}, fields: [name]}}}
      reviews: {table: reviews, on: {id: product_id}, many: nested, fields: [stars], include: {author: {table: authors, on: {author_id: id}, fields: [name]}}}
      tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name}
      title_tag: {table: tags, on: {title: name}, value: rank}
      count: {table: reviews, on: {id: product_id}, aggregate: count}
      stars: {table: reviews, on: {id: product_id}, aggregate: sum, column: stars}
`)
	got := ""
	for _, line := range ix.Sources[0].Describe(relatedTables()) {
		got += fmt.Sprintf("%s: %s (%s)\n", line.Path, line.Column, line.Type)
	}
	const want = `id: id (bigint)
category_id: category_id (text)
Label: title (text)
up: title + "a" ()
size.w: width (integer)
size.deep.t: constant ()
category.name: name of public.categories (text)
category.parent.name: name of public.categories (text)
reviews[].stars: stars of public.reviews (integer)
reviews[].author.name: name of public.authors (uuid)
tags[]: name of public.tags (text)
title_tag: rank of public.tags (text)
count: count of public.reviews (bigint)
stars: sum(stars) of public.reviews (bigint)
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
