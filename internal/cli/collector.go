package cli

import (
	"os"
	"runtime/debug"

	"tidemark/mapping"
)

// kafkaGCPercent is how much garbage there may be beside what is live, in percent of that, in an instance that
// produces to Kafka. Records are many small pieces which the collector follows one by one: at what main sets for
// everybody else (20) it took a third of the processor time of a backfill, for 7 MB less. GOGC in the environment wins.
const kafkaGCPercent = 100

// collectFor has the collector run as seldom as it pays for a configuration.
func collectFor(c *mapping.Config) {
	if c.Kafka != nil && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(kafkaGCPercent)
	}
}
