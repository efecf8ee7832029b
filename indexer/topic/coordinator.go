package topic

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// seekTime is how much longer than the question another coordinator is looked for.
const seekTime = 500 * time.Millisecond

// seekCoordinator is called with what came of a question to the coordinator of the group, asked then. Where
// no answer came the group may have another coordinator by now, which the next question is to go to.
//
// franz-go remembers coordinators. When a broker takes no connection it forgets what that one coordinates if
// the request was for one group, but not if it was one that may be for several, and is split: those for
// offsets and for members are, and would go to a broker that is gone until it is back.
func (c *Client) seekCoordinator(ctx context.Context, asked time.Time, err error) {
	if _, answered := errors.AsType[*kerr.Error](err); err == nil || answered {
		return
	}
	// Where connections are not refused, but nobody takes them, it takes as long again to find out.
	ctx, cancel := context.WithTimeout(ctx, time.Since(asked)+seekTime)
	defer cancel()
	nobody := kmsg.NewPtrHeartbeatRequest() // of no member: it changes nothing, and is refused
	nobody.Group = c.o.Group
	_, _ = nobody.RequestWith(ctx, c.kafka) // who has asked has an error already
}
