package http

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polylog-mq/polylog/session"
)

// collector makes metrics of what the broker says of itself, when they are asked for.
type collector struct{ server *Server }

func newCollector(s *Server) *collector { return &collector{s} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("polylog_"+name, help, labels, nil)
}

// The metrics; docs/metrics.md has the same.
var (
	descInfo         = desc("build_info", "1; the release is a label.", "version")
	descStarted      = desc("start_time_seconds", "When the broker started, since 1970.")
	descEpoch        = desc("epoch", "The leader epoch of this start.")
	descDestinations = desc("destinations", "Destinations, temporary ones included.")
	descConnections  = desc("connections", "Connections that are open.", "protocol")
	descSyncs        = desc("journal_syncs_total", "Syncs of the journal since the start.")
	descJournal      = desc("journal_bytes", "Size of the journal's files.")
	descRecovery     = desc("recovery_seconds", "How long the recovery at the start took.")
	descHeap         = desc("heap_bytes", "Heap in use.")

	descBytes        = desc("destination_bytes", "Size of a destination's log.", "destination", "kind")
	descMessages     = desc("queue_messages", "Messages in a queue that is in use, by state.", "destination", "state")
	descConsumers    = desc("queue_consumers", "Consumers of a queue.", "destination")
	descDelivered    = desc("queue_delivered_total", "Deliveries since the start.", "destination")
	descAcknowledged = desc("queue_acknowledged_total", "Acknowledgements since the start.", "destination")
	descExpired      = desc("queue_expired_total", "Messages that expired since the start.", "destination")
	descDead         = desc("queue_dead_lettered_total", "Messages that became dead letters since the start.", "destination")
	descLeftOut      = desc("destinations_left_out", "Destinations beyond those that metrics are given of one by one.")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInfo, descStarted, descEpoch, descDestinations, descConnections, descSyncs, descJournal, descRecovery, descHeap, descBytes, descMessages,
		descConsumers, descDelivered, descAcknowledged, descExpired, descDead, descLeftOut,
	} {
		out <- d
	}
}

// scrapeLimit bounds how long one answer may take.
const scrapeLimit = 10 * time.Second

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	s := c.server
	stats, err := s.broker.Stats(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descInfo, err)
		return
	}
	version := s.options.Version
	if info, ok := debug.ReadBuildInfo(); version == "" && ok {
		version = info.Main.Version
	}
	gauge(descInfo, 1, version)
	gauge(descStarted, float64(stats.StartedMS)/1000)
	gauge(descEpoch, float64(stats.Epoch))
	gauge(descDestinations, float64(stats.Destinations))
	for protocol, n := range s.options.Connections() {
		gauge(descConnections, float64(n), protocol)
	}
	counter(descSyncs, float64(stats.Syncs))
	gauge(descJournal, float64(stats.JournalBytes))
	gauge(descRecovery, float64(stats.RecoveryMS)/1000)
	gauge(descHeap, float64(stats.HeapBytes))
	all, err := s.broker.ListDestinations(ctx, "", false)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descBytes, err)
		return
	}
	listed := 0
	for i := range all {
		d := &all[i]
		if d.Temporary || listed == s.options.MaxMetrics {
			continue
		}
		listed++
		gauge(descBytes, float64(d.Bytes), d.Name, d.Kind.String())
		if d.Queue != nil {
			c.queue(d.Name, d.Queue, gauge, counter)
		}
	}
	gauge(descLeftOut, float64(len(all)-listed))
}

func (c *collector) queue(name string, q *session.ViewInfo, gauge, counter func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, state := range []struct {
		name string
		n    int64
	}{{"waiting", q.Waiting}, {"acquired", q.Acquired}, {"scheduled", q.Scheduled}, {"held", q.Held}} {
		gauge(descMessages, float64(state.n), name, state.name)
	}
	gauge(descConsumers, float64(q.Consumers), name)
	counter(descDelivered, float64(q.Delivered), name)
	counter(descAcknowledged, float64(q.Acknowledged), name)
	counter(descExpired, float64(q.Expired), name)
	counter(descDead, float64(q.DeadLettered), name)
}
