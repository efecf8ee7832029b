package value

import "tidemark/mapping/jsontext"

// hstoreForm writes an hstore as an object of strings, as its cast to json does,
// which row_to_json follows. There is no field for keys that nobody knows which
// all search servers have: the default keeps them out of search.
var hstoreForm = &Form{Name: "hstore 1", Encode: appendHstore, Field: DisabledField}

// appendHstore reads what hstore_out wrote:
//
//	"a"=>"1", "b \"c\""=>NULL
func appendHstore(dst, text []byte) []byte {
	start := len(dst)
	dst = append(dst, '{')
	for rest := text; len(rest) > 0; {
		if len(rest) < len(text) {
			if len(rest) < 2 || rest[0] != ',' || rest[1] != ' ' {
				return jsontext.Append(dst[:start], text)
			}
			rest = rest[2:]
			dst = append(dst, ',')
		}
		key := quotedStart(rest)
		if key == 0 || len(rest) < key+3 || rest[key] != '=' || rest[key+1] != '>' {
			return jsontext.Append(dst[:start], text)
		}
		dst = append(appendQuoted(dst, rest[1:key-1], jsontext.Append), ':')
		rest = rest[key+2:]
		if n := quotedStart(rest); n > 0 {
			dst = appendQuoted(dst, rest[1:n-1], jsontext.Append)
			rest = rest[n:]
		} else if len(rest) >= 4 && string(rest[:4]) == "NULL" {
			dst = append(dst, "null"...)
			rest = rest[4:]
		} else {
			return jsontext.Append(dst[:start], text)
		}
	}
	return append(dst, '}')
}

// quotedStart returns the length of the quoted text that text begins with, 0 if
// it does not begin with any.
func quotedStart(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	return quotedLen(text)
}
