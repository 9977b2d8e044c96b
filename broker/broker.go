package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nuid"

	"github.com/polylog-mq/polylog/broker/auth"
	"github.com/polylog-mq/polylog/broker/group"
	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/broker/txn"
	"github.com/polylog-mq/polylog/broker/xa"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/commitlog"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/topic"
)

// Broker is a data directory in use. It may be used by many goroutines.
type Broker struct {
	o         Options
	defaults  destination.Settings
	metadata  metadata.Store
	store     *commitlog.Store
	state     *destination.DeliveryState
	work      *queue.Dispatcher
	telling   func() // work.Hold
	units     *queue.Committer
	topics    *topic.Registry
	deps      queue.Deps
	clusterID string

	groups         *group.Coordinator
	transactions   *txn.Coordinator
	branches       *xa.Coordinator
	producerIDs    sync.Mutex // guards nextProducerID; held over a sync
	nextProducerID int64
	groupSettings  groupSettings
	schedules      schedules
	halves         halves
	authority      *auth.Authority
	accessWatches  accessWatches

	startedMS int64
	numbers   atomic.Uint64

	// mu guards what follows and the entries. It is taken after the lock of
	// topics and before that of a view, and never held across a wait.
	mu        sync.RWMutex
	draining  bool // nothing new
	shut      bool // and no changes
	byName    map[string]*entry
	byID      map[[16]byte]*entry
	clientIDs map[string]struct{}
	watches   map[*watch]struct{} // of who waits for destinations

	stop     context.CancelFunc // of the goroutines
	running  sync.WaitGroup
	watching sync.WaitGroup // who tells of new destinations; nobody once draining is set
	failed   chan struct{}
	closing  sync.Once
	closed   error // of Close
}

// Open opens or makes a data directory: commitlog.ErrLocked, metadata.ErrLocked
// while another process has it open, commitlog.ErrNewerFormat,
// metadata.ErrNewerVersion where a newer release has written it.
func Open(o Options) (_ *Broker, err error) {
	o = o.withDefaults()
	b := &Broker{
		o:         o,
		startedMS: o.Now().UnixMilli(),
		byName:    map[string]*entry{},
		byID:      map[[16]byte]*entry{},
		clientIDs: map[string]struct{}{},
		watches:   map[*watch]struct{}{},
		failed:    make(chan struct{}),
		halves:    halves{wake: make(chan struct{}, 1), members: map[string][]*halfMember{}},
	}
	if b.defaults, err = destination.SettingsFrom(o.Defaults); err != nil {
		return nil, fmt.Errorf("default settings: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.release())
		}
	}()
	if err := b.openMetadata(); err != nil {
		return nil, err
	}
	if err := b.openLogs(); err != nil {
		return nil, err
	}
	if err := b.restore(); err != nil {
		return nil, err
	}
	if err := b.openCoordinators(); err != nil {
		return nil, err
	}
	b.start()
	return b, nil
}

func (b *Broker) openMetadata() (err error) {
	if b.metadata = b.o.Metadata; b.metadata != nil {
		return nil
	}
	if err := os.MkdirAll(b.o.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	b.metadata, err = openBolt(filepath.Join(b.o.Dir, "metadata.db"), metadata.Options{Logger: b.o.Logger})
	return err
}

// openBolt returns no interface around a nil pointer.
func openBolt(path string, o metadata.Options) (metadata.Store, error) {
	s, err := metadata.OpenBolt(path, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// openLogs opens the store of the logs and, in it, the delivery state.
func (b *Broker) openLogs() (err error) {
	fs := b.o.FS
	if fs == nil {
		dir := filepath.Join(b.o.Dir, "log")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if fs, err = commitlog.DirFS(dir); err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
	}
	if b.store, err = commitlog.Open(fs, b.o.Log); err != nil {
		return errors.Join(fmt.Errorf("open the logs: %w", err), fs.Close())
	}
	if err := b.removeTemporaries(fs); err != nil {
		return err
	}
	return b.openState()
}

// openState opens the delivery state and what depends on it.
func (b *Broker) openState() error {
	log, err := b.store.OpenLog(commitlog.LogID{Topic: deliveryStateID}, directory(destination.DeliveryStateName, 0), destination.DeliveryStateConfig)
	if err != nil {
		return fmt.Errorf("open %s: %w", destination.DeliveryStateName, err)
	}
	if b.state, err = destination.OpenDeliveryState(b.store, log, b.o.Now); err != nil {
		return fmt.Errorf("read %s: %w", destination.DeliveryStateName, err)
	}
	for _, problem := range b.state.Problems() {
		b.o.Logger.Error("delivery state is damaged: some messages will be delivered again", "error", problem)
	}
	b.work = queue.NewDispatcher(b.o.Workers)
	b.telling = b.work.Hold
	b.units = queue.NewCommitter(b.state)
	b.deps = queue.Deps{
		State: b.state, Dispatcher: b.work,
		Now: b.o.Now, DeadLetter: b.deadLetter, Logger: b.o.Logger,
	}
	b.topics = topic.NewRegistry(topic.Options{
		Store: subscriptionStore{b.metadata}, Deps: b.deps, Now: b.o.Now, Current: b.current,
		CompileSelector: b.o.CompileSelector, Logger: b.o.Logger,
	})
	internal := &destination.Destination{
		Name: destination.DeliveryStateName, ID: deliveryStateID, Kind: destination.KindLog,
		Settings: destination.DefaultSettings(), Internal: true,
		Partitions: []*destination.Partition{destination.NewPartition(0, log, b.store.Epoch())},
	}
	b.byName[internal.Name] = &entry{d: internal}
	return nil
}

// deliveryStateID is the same in every data directory.
var deliveryStateID = [16]byte{'d', 'e', 'l', 'i', 'v', 'e', 'r', 'y', '_', 's', 't', 'a', 't', 'e', 0, 1}

// removeTemporaries deletes what temporary destinations of an earlier start
// have left: they never survive a restart. The store knows some of their logs;
// of others only the files are there.
func (b *Broker) removeTemporaries(fs commitlog.FS) error {
	for _, l := range b.store.Logs() {
		if !isTemporaryDirectory(l.Dir) {
			continue
		}
		log, err := b.store.OpenLog(l.ID, l.Dir, commitlog.Config{Memory: true})
		if err == nil {
			err = log.Delete()
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", l.Dir, err)
		}
	}
	entries, err := fs.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list the logs: %w", err)
	}
	for _, e := range entries {
		if e.Dir && isTemporaryDirectory(e.Name) {
			if err := fs.RemoveAll(e.Name); err != nil {
				return fmt.Errorf("remove %s: %w", e.Name, err)
			}
		}
	}
	return nil
}

// start starts the goroutines.
func (b *Broker) start() {
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.running.Go(func() { b.watch(ctx) })
	b.running.Go(func() { b.keep(ctx) })
	b.running.Go(func() { b.sendSchedules(ctx) })
	b.running.Go(func() { b.checkHalves(ctx) })
}

// watch closes Failed after a failed sync.
func (b *Broker) watch(ctx context.Context) {
	select {
	case <-b.store.Failed():
	case <-b.metadata.Failed():
	case <-ctx.Done():
		return
	}
	b.o.Logger.Error("a sync failed: nothing is confirmed any more; the process must end", "error", b.Err())
	close(b.failed)
}

// Failed is closed after a failed sync (S3). The process has to end: what was
// not confirmed may be on disk or not, and only reading it again can tell.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// Err says why the broker failed, or nil.
func (b *Broker) Err() error { return errors.Join(b.store.Err(), b.metadata.Err()) }

// ClusterID is the identity of this data directory, made with it.
func (b *Broker) ClusterID() string { return b.clusterID }

// Epoch is the leader epoch of this start.
func (b *Broker) Epoch() int32 { return b.store.Epoch() }

// NextNumber returns 1, 2, 3 and so on: for connections and holders.
func (b *Broker) NextNumber() uint64 { return b.numbers.Add(1) }

// Drain refuses whatever is new, ErrShuttingDown, while what is open goes on.
func (b *Broker) Drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draining = true
}

// Close stops the deliveries, finishes what is being committed, writes a
// checkpoint, so that the next start has nothing to replay, and gives the data
// directory up. It may be called again.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.stop()
		b.running.Wait()
		b.shutDown()
		b.watching.Wait()
		b.closed = b.release()
	})
	return b.closed
}

// shutDown waits for whoever creates, changes or deletes a destination, and
// lets nobody else begin.
func (b *Broker) shutDown() {
	b.mu.Lock()
	b.draining, b.shut = true, true
	var busy []chan struct{}
	for _, e := range b.byName {
		if e.busy != nil {
			busy = append(busy, e.busy)
		}
	}
	b.mu.Unlock()
	for _, c := range busy {
		<-c
	}
}

// release closes what Open has opened so far, from the top down.
func (b *Broker) release() error {
	var errs []error
	if b.transactions != nil {
		errs = append(errs, b.transactions.Close())
	}
	if b.groups != nil {
		errs = append(errs, b.groups.Close())
	}
	if b.units != nil {
		b.units.Close()
	}
	if b.topics != nil {
		errs = append(errs, b.topics.Close())
	}
	for _, v := range b.views() {
		errs = append(errs, v.Close())
	}
	if b.work != nil {
		b.work.Close()
	}
	if b.state != nil {
		errs = append(errs, b.state.Close())
	}
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.metadata != nil {
		errs = append(errs, b.metadata.Close())
	}
	return errors.Join(errs...)
}

// views are the open queue views.
func (b *Broker) views() []*queue.View {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var views []*queue.View
	for _, e := range b.byName {
		if e.view != nil {
			views = append(views, e.view)
		}
	}
	return views
}

// newClusterID has 22 letters and digits.
func newClusterID() string { return nuid.Next() }
