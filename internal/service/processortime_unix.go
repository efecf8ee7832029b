//go:build unix

package service

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime returns what this process has used of the processors.
func processorTime() (used time.Duration, ok bool) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
