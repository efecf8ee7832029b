package value

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Append writes what an expression gave as JSON on one line. Keys of
// objects are sorted. It refuses what JSON does not have: NaN, the infinities,
// durations, functions.
func Append(dst []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case float64:
		return appendFloat(dst, v)
	case string:
		return appendText(dst, v), nil
	case time.Time:
		return appendTime(dst, v), nil
	case time.Duration:
		return nil, fmt.Errorf("a duration has no JSON form: take its Seconds()")
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64: // Month() and Weekday(), too
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case reflect.Float32:
		return appendFloat(dst, v.Float())
	case reflect.Slice, reflect.Array:
		return appendElements(dst, v)
	case reflect.Map:
		return appendMembers(dst, v)
	}
	return nil, fmt.Errorf("a value of type %T has no JSON form", value)
}

// appendText is [AppendString] for what is a string already.
func appendText(dst []byte, s string) []byte {
	// Most are short: then the copy is on the stack.
	var room [256]byte
	return AppendString(dst, append(room[:0], s...))
}

// appendFloat writes the shortest digits that read as the same number again.
func appendFloat(dst []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%v has no JSON form", f)
	}
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64), nil
}

func appendElements(dst []byte, array reflect.Value) (_ []byte, err error) {
	dst = append(dst, '[')
	for i := range array.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = Append(dst, array.Index(i).Interface()); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMembers(dst []byte, object reflect.Value) (_ []byte, err error) {
	type member struct {
		name  []byte
		value reflect.Value
	}
	members := make([]member, 0, object.Len())
	for it := object.MapRange(); it.Next(); {
		name, err := KeyText(it.Key().Interface())
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, it.Value()})
	}
	slices.SortFunc(members, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			if bytes.Equal(m.name, members[i-1].name) { // 1 and "1"; the server would refuse the document
				return nil, fmt.Errorf("the key %q is there twice", m.name)
			}
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, m.name), ':')
		if dst, err = Append(dst, m.value.Interface()); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// KeyText returns the name that a key of a map has in JSON.
func KeyText(key any) ([]byte, error) {
	switch k := key.(type) {
	case string:
		return []byte(k), nil
	case int, bool, float64:
		return fmt.Append(nil, k), nil
	case nil:
		return nil, fmt.Errorf("nil cannot be a key in JSON")
	}
	return nil, fmt.Errorf("a value of type %T cannot be a key in JSON", key)
}
