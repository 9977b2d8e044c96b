package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// What a Kafka controller has noted of topics' configs. It is in the log
// __cluster_metadata of KRaft, beside the partitions if the broker was its own
// controller, or in snapshots of that log.

const (
	clusterMetadata = "__cluster_metadata-0"
	configRecord    = 4 // the api key of ConfigRecord
	topicResource   = 2
)

// kafkaConfigs are what was set for topics, by topic and name; nil if there is
// no metadata in from.
func kafkaConfigs(from string) (map[string]map[string]string, error) {
	dir := filepath.Join(from, clusterMetadata)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	var logs []string
	snapshot, covered := "", int64(-1) // the newest snapshot, and the offset behind what is in it
	for _, e := range entries {
		offset, err := strconv.ParseInt(strings.SplitN(e.Name(), "-", 2)[0], 10, 64)
		switch {
		case strings.HasSuffix(e.Name(), ".log"):
			logs = append(logs, e.Name())
		case strings.HasSuffix(e.Name(), ".checkpoint") && err == nil && offset > covered:
			snapshot, covered = e.Name(), offset
		}
	}
	if snapshot != "" {
		if err := readConfigs(filepath.Join(dir, snapshot), 0, all); err != nil {
			return nil, err
		}
	}
	slices.Sort(logs)
	for _, name := range logs {
		if err := readConfigs(filepath.Join(dir, name), covered, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readConfigs takes in the records from an offset on of one file of the
// metadata log. A torn end is nothing that the controller has confirmed.
func readConfigs(name string, from int64, all map[string]map[string]string) error {
	rest, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil || !b.CRCValid() {
			return nil
		}
		if b.IsControl() {
			continue
		}
		var r record.Reader
		if err := r.Reset(b, 64<<20); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for r.Next() {
			if one := r.Record(); one.Offset >= from {
				noteConfig(one.Value, all)
			}
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// noteConfig takes in one record of the metadata log, if it is a ConfigRecord of
// a topic: frame version, api key and version, then the fields in the flexible
// encoding.
func noteConfig(value []byte, all map[string]map[string]string) {
	p := metadataReader{value, true}
	frame, key, _ := p.uvarint(), p.uvarint(), p.uvarint()
	if frame != 1 || key != configRecord {
		return
	}
	kind := p.byte()
	topic, _ := p.text()
	name, _ := p.text()
	text, set := p.text()
	switch {
	case !p.ok || kind != topicResource:
	case !set:
		delete(all[topic], name)
	default:
		if all[topic] == nil {
			all[topic] = map[string]string{}
		}
		all[topic][name] = text
	}
}

// metadataReader reads the fields of a record of the metadata log.
type metadataReader struct {
	rest []byte
	ok   bool
}

func (p *metadataReader) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.ok, p.rest = false, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *metadataReader) byte() byte {
	if len(p.rest) == 0 {
		p.ok = false
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

// text is a compact string; set is false if it is null.
func (p *metadataReader) text() (s string, set bool) {
	n := p.uvarint()
	if n == 0 {
		return "", false
	}
	if n--; n > uint64(len(p.rest)) {
		p.ok, p.rest = false, nil
		return "", false
	}
	s, p.rest = string(p.rest[:n]), p.rest[n:]
	return s, true
}

// adoptedSettings are those of a topic with its configs from Kafka, as far as
// they mean something here. Without configs nothing is deleted until somebody
// says so.
func adoptedSettings(s destination.Settings, configs map[string]map[string]string, topic string) (destination.Settings, []string) {
	if configs == nil {
		s.RetentionMS = -1
		return s, nil
	}
	var refused []string
	for name, text := range configs[topic] {
		changed := s
		if changed.Set(name, text) == nil && changed.Validate() == nil {
			s = changed
		} else {
			refused = append(refused, name+"="+text)
		}
	}
	slices.Sort(refused)
	return s, refused
}
