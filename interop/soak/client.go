package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// patient are the options of every client: it comes back soon, and gives up a request
// after the limit.
func patient(address string, limit time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(address),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(50*time.Millisecond<<min(tries, 4), 500*time.Millisecond) }),
		kgo.RequestRetries(10000),
		kgo.RetryTimeout(limit),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.UnknownTopicRetries(-1),
		kgo.DisableClientMetrics(),
	}
}

// createTopics makes topics from which nothing is removed, or finds them.
func createTopics(ctx context.Context, address string, partitions int32, topics ...string) error {
	cl, err := kgo.NewClient(patient(address, time.Minute)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	forever := "-1"
	made, err := kadm.NewClient(cl).CreateTopics(ctx, partitions, 1, map[string]*string{"retention.ms": &forever}, topics...)
	if err != nil {
		return err
	}
	for _, topic := range made {
		if topic.Err != nil && !errors.Is(topic.Err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create %s: %w", topic.Topic, topic.Err)
		}
	}
	return nil
}

// A client reads all partitions of a trial's topics from the beginning, markers included.
type client struct{ *kgo.Client }

func newReader(address string, level kgo.IsolationLevel) (*client, error) {
	partitions := map[string]map[int32]kgo.Offset{}
	for _, at := range allPlaces() {
		if partitions[at.Topic] == nil {
			partitions[at.Topic] = map[int32]kgo.Offset{}
		}
		partitions[at.Topic][at.Partition] = kgo.NewOffset().At(0)
	}
	cl, err := kgo.NewClient(append(patient(address, 20*time.Second),
		kgo.ConsumePartitions(partitions),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(level),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(4<<20),
	)...)
	return &client{cl}, err
}

// poll gives what comes within a second.
func (c *client) poll(ctx context.Context, take func(kgo.Fetches)) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	take(c.PollFetches(ctx))
}

// readAll reads up to the given ends.
func readAll(ctx context.Context, address string, level kgo.IsolationLevel, ends map[place]int64, take func(kgo.Fetches), next func(place) int64) error {
	cl, err := newReader(address, level)
	if err != nil {
		return err
	}
	defer cl.Close()
	moved := time.Now()
	for {
		behind := ""
		for at, end := range ends {
			if next(at) < end {
				behind = fmt.Sprintf("%s gave nothing after %d for %s; it ends at %d", at, next(at), auditLimit, end)
			}
		}
		if behind == "" {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(moved) > auditLimit {
			return errors.New(behind)
		}
		cl.poll(ctx, func(f kgo.Fetches) {
			if f.NumRecords() > 0 {
				moved = time.Now()
			}
			take(f)
		})
	}
}
