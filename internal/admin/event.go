package admin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// keptEvents is how many events are remembered.
	keptEvents = 200

	// shownEvents is how many of them are shown.
	shownEvents = 50

	// maxEventText bounds the message and each attribute of an event, in bytes.
	maxEventText = 2000
)

// An Event is a record of the log, from the level info up. What is masked in the log is masked here.
type Event struct {
	At         time.Time   `json:"at"`
	Level      string      `json:"level"` // INFO, WARN, ERROR
	Message    string      `json:"message"`
	Attributes []Attribute `json:"attributes"` // in the order of the log

	number int64 // counts the events of this process, from 1
}

// An Attribute is a detail of an event: a text, or the JSON of anything else.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Number is the same for as long as the process lasts, and no other event's.
func (e Event) Number() int64 { return e.number }

// attribute returns the value of the attribute with this name, "" if there is none.
func (e *Event) attribute(name string) string {
	for _, a := range e.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// isTrouble reports whether somebody may have to do something about it.
func (e *Event) isTrouble() bool {
	return e.Level == slog.LevelWarn.String() || e.Level == slog.LevelError.String()
}

// Events remembers the last records of a log. The log writes to it: JSON, an object a line, as
// logging.New makes it. It is safe for concurrent use.
type Events struct {
	mu     sync.Mutex
	count  int64            // of all events since the start
	last   []Event          // the oldest first; keptEvents at most
	errors map[string]Event // the last warning or error that names an index
}

// Write takes lines of the log.
func (e *Events) Write(lines []byte) (int, error) {
	for line := range bytes.Lines(lines) {
		event, err := parseEvent(line)
		if err != nil {
			return 0, err
		}
		e.add(event)
	}
	return len(lines), nil
}

func (e *Events) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count++
	event.number = e.count
	e.last = append(e.last, event)
	if len(e.last) > keptEvents {
		e.last = slices.Delete(e.last, 0, len(e.last)-keptEvents)
	}
	if index := event.attribute("index"); index != "" && event.isTrouble() {
		if e.errors == nil {
			e.errors = make(map[string]Event)
		}
		if _, known := e.errors[index]; known || len(e.errors) < keptEvents {
			e.errors[index] = event
		}
	}
}

// newest returns the last n events, the newest first.
func (e *Events) newest(n int) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := append([]Event{}, e.last[max(0, len(e.last)-n):]...)
	slices.Reverse(last)
	return last
}

// lastError returns the last warning or error that names an index, nil if there was none.
func (e *Events) lastError(index string) *Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	if event, is := e.errors[index]; is {
		return &event
	}
	return nil
}

// parseEvent reads a line of the log; attributes keep their order.
func parseEvent(line []byte) (Event, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	event := Event{Attributes: []Attribute{}}
	if _, err := d.Token(); err != nil { // {
		return Event{}, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return Event{}, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return Event{}, err
		}
		name, value := key.(string), string(raw)
		if text := ""; json.Unmarshal(raw, &text) == nil {
			value = text
		}
		value = shortened(value, maxEventText)
		switch name {
		case slog.TimeKey:
			if event.At, err = time.Parse(time.RFC3339Nano, value); err != nil {
				return Event{}, err
			}
			event.At = event.At.UTC()
		case slog.LevelKey:
			event.Level = value
		case slog.MessageKey:
			event.Message = value
		default:
			event.Attributes = append(event.Attributes, Attribute{name, value})
		}
	}
	return event, nil
}

// shortened cuts a text off behind so many bytes, and a whole character.
func shortened(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	for bytes > 0 && !utf8.RuneStart(text[bytes]) {
		bytes--
	}
	return strings.TrimSpace(text[:bytes]) + "…"
}
