package commitlog

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/polylog-mq/polylog/destination/record"
)

// tracked is what is derived from the batches and kept in files beside the segments. Guarded by Log.files.
type tracked struct {
	metadata     bool // partition.metadata is there
	epochs       []EpochStart
	epochsLoaded bool
	epochsDirty  bool
	producers    *producers // nil until somebody wanted it
	observed     int64      // batches below were taken in, if any was in this process
	snapshots    []int64    // of producers, ascending; nil until they were listed
	txnsUnsynced []dirtySegment
}

// EpochStart says from which offset on batches were appended under a leader epoch.
type EpochStart struct {
	Epoch  int32
	Offset int64
}

const epochsName = "leader-epoch-checkpoint"

// Epochs lists the leader epochs of the log, ascending.
func (l *Log) Epochs() ([]EpochStart, error) {
	if err := l.ensureFiles(); err != nil {
		return nil, err
	}
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.loadEpochs(); err != nil {
		return nil, err
	}
	return slices.Clone(l.aside.epochs), nil
}

// loadEpochs reads the file once. A file that cannot be parsed is as none: the batches themselves carry their epochs.
func (l *Log) loadEpochs() error {
	if l.aside.epochsLoaded {
		return nil
	}
	p, err := readFile(l.store.fs, l.dir+"/"+epochsName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.aside.epochsLoaded = true
	for _, e := range parseEpochs(p) {
		if e.Offset < l.w.end {
			l.aside.epochs = append(l.aside.epochs, e)
		}
	}
	return nil
}

func parseEpochs(p []byte) []EpochStart {
	var version, count int
	r := bytes.NewReader(p)
	if _, err := fmt.Fscan(r, &version, &count); err != nil || version != 0 {
		return nil
	}
	var list []EpochStart
	for range count {
		var e EpochStart
		if _, err := fmt.Fscan(r, &e.Epoch, &e.Offset); err != nil {
			return nil
		}
		if n := len(list); n > 0 && (e.Epoch <= list[n-1].Epoch || e.Offset < list[n-1].Offset) {
			return nil
		}
		list = append(list, e)
	}
	return list
}

// saveEpochs writes the file if it has changed, which is once in a start and after truncations.
func (l *Log) saveEpochs() (renamed bool, err error) {
	if !l.aside.epochsDirty {
		return false, nil
	}
	p := fmt.Appendf(nil, "0\n%d\n", len(l.aside.epochs))
	for _, e := range l.aside.epochs {
		p = fmt.Appendf(p, "%d %d\n", e.Epoch, e.Offset)
	}
	if err := replaceFile(l.store.fs, l.dir+"/"+epochsName, p, true); err != nil {
		return false, err
	}
	l.aside.epochsDirty = false
	return true, nil
}

// cutEpochsFrom forgets epochs that begin at or above an offset.
func (l *Log) cutEpochsFrom(offset int64) error {
	if err := l.loadEpochs(); err != nil {
		return err
	}
	n := len(l.aside.epochs)
	l.aside.epochs = slices.DeleteFunc(l.aside.epochs, func(e EpochStart) bool { return e.Offset >= offset })
	l.aside.epochsDirty = l.aside.epochsDirty || n != len(l.aside.epochs)
	return nil
}

// cutEpochsBelow lets the oldest epoch begin at the log's start, as Kafka does.
func (l *Log) cutEpochsBelow(offset int64) error {
	if err := l.loadEpochs(); err != nil {
		return err
	}
	list := l.aside.epochs
	for len(list) > 1 && list[1].Offset <= offset {
		list = list[1:]
	}
	if len(list) > 0 && list[0].Offset < offset {
		list = slices.Clone(list)
		list[0].Offset = offset
		l.aside.epochs, l.aside.epochsDirty = list, true
	}
	return nil
}

// track takes in a batch that was written. files is held.
func (l *Log) track(b record.Batch) error {
	a := &l.aside
	a.observed = b.NextOffset()
	if n := len(a.epochs); n == 0 || a.epochs[n-1].Epoch < b.LeaderEpoch() {
		if err := l.loadEpochs(); err != nil {
			return err
		}
		if n := len(a.epochs); n == 0 || a.epochs[n-1].Epoch < b.LeaderEpoch() {
			a.epochs = append(a.epochs, EpochStart{Epoch: b.LeaderEpoch(), Offset: b.BaseOffset()})
			a.epochsDirty = true
		}
	}
	if b.ProducerID() < 0 {
		return nil
	}
	return l.trackProducer(b)
}

// partitionMetadata is Kafka's file of that name.
func partitionMetadata(id LogID) []byte {
	return []byte("version: 0\ntopic_id: " + base64.RawURLEncoding.EncodeToString(id.Topic[:]) + "\n")
}
