//go:build !unix

package service

import "time"

// processorTime is not known here.
func processorTime() (used time.Duration, ok bool) { return 0, false }
