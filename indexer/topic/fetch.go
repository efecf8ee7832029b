package topic

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A GoneError reports that records are gone from a partition, or never were there: nothing can be read
// from the offset on that was to come next.
type GoneError struct {
	Topic     string
	Partition int32
	Err       error
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("topic %s, partition %d: what was to be read next is not there: %v", e.Topic, e.Partition, e.Err)
}
func (e *GoneError) Unwrap() error { return e.Err }

// fetchError returns the first error of a fetch that franz-go does not get over by itself, a
// [*GoneError] where records are gone.
func fetchError(fetches kgo.Fetches) error {
	var first error
	fetches.EachError(func(topic string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		switch {
		case first != nil, errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
		case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &lost):
			first = &GoneError{Topic: topic, Partition: partition, Err: err}
		default:
			first = err
		}
	})
	return first
}
