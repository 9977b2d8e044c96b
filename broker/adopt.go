package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// AdoptOptions say what to take over from a Kafka broker.
type AdoptOptions struct {
	// From is a log directory of a Kafka broker that is not running: one entry
	// of its log.dirs.
	From string
	// Topics restricts it to these; empty: all, and the committed offsets and
	// transactions.
	Topics []string
	// Progress, if not nil, is called after each partition, and often while a
	// large one is being copied.
	Progress func(AdoptProgress)
}

// AdoptProgress is how far an adoption is.
type AdoptProgress struct {
	Topic                    string
	Partitions, PartitionsOf int   // done, and of how many
	Bytes, BytesOf           int64 // of segments
}

// Adopted is a topic that was taken over.
type Adopted struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Records    int64  `json:"offsets"` // from the start to the end of all partitions
	Bytes      int64  `json:"bytes"`
	// Settings are those that are not the defaults, and Ignored Kafka's configs
	// that mean nothing here.
	Settings map[string]string `json:"settings,omitempty"`
	Ignored  []string          `json:"ignored_configs,omitempty"`
}

// ErrKafkaRuns is returned while a Kafka broker has its log directory open.
var ErrKafkaRuns = errors.New("a Kafka broker is running on this directory")

// Adopt opens a broker on o.Dir that has taken over topics from the log
// directory of a Kafka broker, with their ids, offsets, records, leader epochs
// and producers, and what groups have committed. The bytes are copied, and
// nothing in a.From is changed. The configs of topics come along if the broker
// was its own controller, which has noted them beside the partitions; otherwise
// the topics have the broker's defaults but for retention.ms=-1, so that nothing
// is deleted before somebody has looked after that.
//
// The topics appear one after the other, each when all of it is on disk. After a
// crash Adopt may be called again for what is missing: topics that are here
// with the same id are left alone, with another id they are ErrExists.
func Adopt(ctx context.Context, o Options, a AdoptOptions) (_ *Broker, _ []Adopted, err error) {
	if err := notRunning(a.From); err != nil {
		return nil, nil, err
	}
	plan, err := planAdoption(a)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range plan {
		o.Log.MinEpoch = max(o.Log.MinEpoch, t.epoch+1)
	}
	b, err := Open(o)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	var progress AdoptProgress
	for _, t := range plan {
		progress.PartitionsOf += len(t.partitions)
		for _, p := range t.partitions {
			progress.BytesOf += p.bytes
		}
	}
	var list []Adopted
	for _, t := range plan {
		progress.Topic = t.name
		done, err := b.adopt(ctx, t, &progress, a.Progress)
		if err != nil {
			return nil, nil, fmt.Errorf("adopt topic %q: %w", t.name, err)
		}
		if done != nil {
			list = append(list, *done)
		}
	}
	return b, list, b.reloadCoordinators(list)
}

// adoptedTopic is what a Kafka broker has of a topic.
type adoptedTopic struct {
	name       string
	id         [16]byte
	epoch      int32 // the highest leader epoch
	partitions []adoptedPartition
	configs    map[string]map[string]string // of all topics; nil: nothing is known
}

type adoptedPartition struct {
	dir   string
	files []string
	bytes int64
}

var partitionDirectory = regexp.MustCompile(`^([a-zA-Z0-9._-]+)-([0-9]+)$`)

// adoptedFiles are taken; indexes are made anew.
var adoptedFiles = regexp.MustCompile(`^([0-9]{20}\.(log|snapshot|txnindex)|leader-epoch-checkpoint|partition\.metadata)$`)

// planAdoption looks at what is there, and refuses what is not whole.
func planAdoption(a AdoptOptions) ([]adoptedTopic, error) {
	entries, err := os.ReadDir(a.From)
	if err != nil {
		return nil, fmt.Errorf("log directory of Kafka: %w", err)
	}
	topics := map[string]map[int]adoptedPartition{}
	for _, e := range entries {
		m := partitionDirectory.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() || m[1] == "__cluster_metadata" || !a.wants(m[1]) {
			continue
		}
		number, err := strconv.Atoi(m[2])
		if err != nil || number >= destination.MaxPartitions {
			return nil, fmt.Errorf("%s: partition %s", e.Name(), m[2])
		}
		p, err := lookAtPartition(filepath.Join(a.From, e.Name()))
		if err != nil {
			return nil, err
		}
		if topics[m[1]] == nil {
			topics[m[1]] = map[int]adoptedPartition{}
		}
		topics[m[1]][number] = p
	}
	configs, err := kafkaConfigs(a.From)
	if err != nil {
		return nil, fmt.Errorf("configs of topics: %w", err)
	}
	var plan []adoptedTopic
	for name, partitions := range topics {
		t := adoptedTopic{name: name, configs: configs}
		for i := range len(partitions) {
			p, ok := partitions[i]
			if !ok {
				return nil, fmt.Errorf("topic %q: partition %d of %d is not in %s: adopt a broker that has all of them", name, i, len(partitions), a.From)
			}
			id, epoch, err := p.identity()
			if err != nil {
				return nil, err
			}
			if i > 0 && id != t.id {
				return nil, fmt.Errorf("topic %q: its partitions have different topic ids", name)
			}
			t.id, t.epoch = id, max(t.epoch, epoch)
			t.partitions = append(t.partitions, p)
		}
		plan = append(plan, t)
	}
	for _, name := range a.Topics {
		if topics[name] == nil {
			return nil, fmt.Errorf("%w: topic %q in %s", destination.ErrNotFound, name, a.From)
		}
	}
	// The broker's own last: offsets refer to topics.
	slices.SortFunc(plan, func(x, y adoptedTopic) int {
		if in, jn := isInternal(x.name), isInternal(y.name); in != jn {
			if in {
				return 1
			}
			return -1
		}
		return strings.Compare(x.name, y.name)
	})
	return plan, nil
}

// wants says whether a topic is to be adopted. Of Kafka's own only those that
// are known are.
func (a *AdoptOptions) wants(topic string) bool {
	if len(a.Topics) > 0 {
		return slices.Contains(a.Topics, topic)
	}
	return !isInternal(topic) || topic == group.TopicName || topic == txn.TopicName
}

func lookAtPartition(dir string) (adoptedPartition, error) {
	p := adoptedPartition{dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if !adoptedFiles.MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return p, err
		}
		p.files = append(p.files, e.Name())
		p.bytes += info.Size()
	}
	return p, nil
}

// identity reads the topic's id and the highest leader epoch.
func (p *adoptedPartition) identity() (id [16]byte, epoch int32, err error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "partition.metadata"))
	if err != nil {
		return id, 0, fmt.Errorf("%w; Kafka 2.8 and later write it", err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case key == "version" && value != "0":
			return id, 0, fmt.Errorf("%s: partition.metadata has version %s, known is 0", p.dir, value)
		case key == "topic_id":
			raw, err := base64.RawURLEncoding.DecodeString(value)
			if err != nil || len(raw) != len(id) {
				return id, 0, fmt.Errorf("%s: topic id %q", p.dir, value)
			}
			copy(id[:], raw)
		}
	}
	if id == [16]byte{} {
		return id, 0, fmt.Errorf("%s: partition.metadata has no topic id", p.dir)
	}
	text, err = os.ReadFile(filepath.Join(p.dir, "leader-epoch-checkpoint"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return id, 0, err
	}
	lines := strings.Fields(string(text))
	for i := 2; i+1 < len(lines); i += 2 { // version, count, and pairs of epoch and offset
		n, err := strconv.ParseInt(lines[i], 10, 32)
		if err != nil {
			return id, 0, fmt.Errorf("%s: leader-epoch-checkpoint: %w", p.dir, err)
		}
		epoch = max(epoch, int32(n))
	}
	return id, epoch, nil
}

// adopt copies a topic and makes it known. It is nil if it was here already.
func (b *Broker) adopt(ctx context.Context, t adoptedTopic, progress *AdoptProgress, tell func(AdoptProgress)) (*Adopted, error) {
	name := record.DestinationName(t.name)
	if d, err := b.find(ctx, name); err == nil {
		if d.ID == t.id {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: here it has the id %x, there %x; delete or rename one of them", destination.ErrExists, d.ID, t.id)
	}
	if isTemporary(name) {
		return nil, fmt.Errorf("%w: the name is that of a temporary destination", destination.ErrInvalid)
	}
	e, d, err := b.reserve(ctx, name)
	if err != nil || d != nil {
		return nil, errors.Join(err, errors.New("it has been created meanwhile"))
	}
	s, ignored := adoptedSettings(b.defaults, t.configs, t.name)
	switch t.name {
	case group.TopicName:
		s, ignored = group.Settings(), nil
	case txn.TopicName:
		s, ignored = txn.Settings(), nil
	}
	s.Partitions = len(t.partitions)
	m := metadata.Destination{Name: name, ID: t.id, Kind: destination.KindLog, Partitions: s.Partitions, Settings: s, CreatedMS: b.o.Now().UnixMilli()}
	for i := range t.partitions {
		if err == nil {
			err = b.copyPartition(ctx, &t.partitions[i], directory(name, i), progress, tell)
		}
	}
	if err == nil {
		err = b.metadata.PutDestination(m)
	}
	if err == nil {
		d, err = b.build(m)
	}
	e.createdMS = m.CreatedMS
	b.settle(e, name, d, err)
	if err != nil {
		return nil, err
	}
	done := &Adopted{Topic: t.name, Partitions: len(d.Partitions), Ignored: ignored}
	if !isInternal(t.name) {
		done.Settings = s.Changes()
		delete(done.Settings, "partitions")
	}
	for _, p := range d.Partitions {
		done.Records += p.End() - p.Start() // finds its end, and makes it known to the checkpoint
		done.Bytes += p.Log().Bytes()
	}
	if err := b.keepProducerIDs(d); err != nil {
		return nil, err
	}
	b.regroup(d)
	return done, b.Err()
}

// keepProducerIDs has new producers get ids that none of d's has.
func (b *Broker) keepProducerIDs(d *destination.Destination) error {
	highest := int64(-1)
	for _, p := range d.Partitions {
		producers, err := p.Producers()
		if err != nil {
			return err
		}
		for _, one := range producers {
			highest = max(highest, one.ID)
		}
	}
	return b.raiseProducerIDs(highest + 1)
}

// copyPartition copies a partition's files, durably.
func (b *Broker) copyPartition(ctx context.Context, p *adoptedPartition, dir string, progress *AdoptProgress, tell func(AdoptProgress)) error {
	to := filepath.Join(b.o.Dir, "log", dir)
	if err := os.RemoveAll(to); err != nil { // of an adoption that was interrupted: nobody knows it
		return err
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	for _, name := range p.files {
		if err := copyFile(ctx, filepath.Join(p.dir, name), filepath.Join(to, name), func(n int64) {
			progress.Bytes += n
			if tell != nil {
				tell(*progress)
			}
		}); err != nil {
			return err
		}
	}
	if err := errors.Join(syncPath(to), syncPath(filepath.Dir(to))); err != nil {
		return err
	}
	if progress.Partitions++; tell != nil {
		tell(*progress)
	}
	return nil
}

// copyStep is how much is copied between two looks at the context.
const copyStep = 64 << 20

func copyFile(ctx context.Context, from, to string, copied func(int64)) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(out, in, copyStep)
		copied(n)
		if errors.Is(err, io.EOF) {
			return out.Sync()
		}
		if err != nil {
			return err
		}
	}
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// reloadCoordinators reads again what the coordinators have, if that was
// adopted.
func (b *Broker) reloadCoordinators(list []Adopted) error {
	if !slices.ContainsFunc(list, func(a Adopted) bool { return isInternal(a.Topic) }) {
		return nil
	}
	if err := errors.Join(b.transactions.Close(), b.groups.Close()); err != nil {
		return err
	}
	if err := b.openCoordinators(); err != nil {
		return err
	}
	highest := int64(-1)
	for _, t := range b.transactions.ListTransactions(context.Background(), kmsg.NewPtrListTransactionsRequest()).TransactionStates {
		highest = max(highest, t.ProducerID)
	}
	return b.raiseProducerIDs(highest + 1)
}
