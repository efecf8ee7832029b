package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

const (
	// streamInterval is how often a page that is looked at is made anew.
	streamInterval = 2 * time.Second

	// maxStreams bounds how many pages are kept up to date at a time.
	maxStreams = 32

	// streamPatience is how long a browser may take for what it is sent.
	streamPatience = 10 * time.Second
)

// stream answers GET /events: server-sent events, each with the part of the page that changes, as
// HTML. It goes on until the browser leaves or the server ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "30")
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": fmt.Sprintf("%d pages are looked at already", maxStreams)})
		return
	}
	to := http.NewResponseController(w)
	if err := to.SetReadDeadline(time.Time{}); err != nil { // it would end the request
		writeJSON(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // of a proxy
	ticker := time.NewTicker(streamInterval)
	defer ticker.Stop()
	var sent []byte
	for {
		var now, event bytes.Buffer
		if err := templates.ExecuteTemplate(&now, "status", s.view(r, "./")); err != nil {
			s.o.Logger.Error("the status page cannot be made", "error", err)
			return
		}
		event.WriteString(": \n\n") // says that the connection works
		if !bytes.Equal(now.Bytes(), sent) {
			event.WriteString("event: status\n")
			for line := range bytes.Lines(now.Bytes()) {
				if line = bytes.TrimSpace(line); len(line) > 0 {
					fmt.Fprintf(&event, "data: %s\n", line)
				}
			}
			event.WriteByte('\n')
			sent = now.Bytes()
		}
		if err := to.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
			return
		}
		if _, err := w.Write(event.Bytes()); err != nil {
			return // it has left
		}
		if err := to.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		}
	}
}
