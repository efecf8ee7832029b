package search

import (
	"strings"
	"testing"
)

// What a search server quotes of a document stays out of logs; which field and type it is about
// does not.
func TestWithheld(t *testing.T) {
	const canary = "S3cr3t"
	for _, test := range []struct{ reason, want string }{
		{`failed to parse field [n] of type [integer] in document with id '7'. Preview of field's value: 'S3cr3t': For input string: "S3cr3t"`, "failed to parse field [n] of type [integer] in document with id …"},
		{`[1:20] failed to parse field [n] of type [integer] in document with id '7'. Preview of field's value: 'S3cr3t'`, "failed to parse field [n] of type [integer] in document with id …"},
		{`failed to parse date field [S3cr3t] with format [strict_date_optional_time]`, "failed to parse date field […] with format […]"},
		{`Failed to parse value [S3cr3t] as only [true] or [false] are allowed.`, "Failed to parse value […] as only […] or […] are allowed."},
		{`Value [S3cr3t] is out of range for an integer`, "Value […] is out of range for an integer"},
		{`Document contains at least one immense term in field="body" (whose UTF8 encoding is longer than 32766), prefix S3cr3t`, "Document contains at least one immense term in field= …"},
		{`Unrecognized token 'S3cr3t': was expecting`, "Unrecognized token …"},
		{`object mapping for [a.b] tried to parse field [b] as object, but found a concrete value`, ""},
		{`mapper [a] cannot be changed from type [long] to [text]`, ""},
	} {
		want := test.want
		if want == "" {
			want = test.reason
		}
		got := withheld(test.reason)
		if got != want {
			t.Errorf("%q: got %q, want %q", test.reason, got, want)
		}
		if strings.Contains(got, canary) {
			t.Errorf("%q shows the value", got)
		}
		e := &DocError{Index: "i", ID: "7", Status: 400, Type: "document_parsing_exception", Reason: test.reason}
		if text := e.WithoutValues(); !strings.Contains(text, want) || !strings.Contains(text, "i/7") || !strings.Contains(e.Error(), test.reason) {
			t.Errorf("%q", text)
		}
	}
}
