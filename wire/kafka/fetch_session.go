package kafka

import (
	"math"
	"math/rand/v2"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch sessions (KIP-227), Fetch 7 and later. A session remembers which
// partitions a client fetches and what it knows of them, so that a request names
// only what has changed on its side, and an answer only what has on ours:
// records, the high watermark, the last stable offset, the start of the log, or
// an error, which is told each time. A partition that got records goes to the
// end of the order, so that none starves while MaxBytes are used up before it.
//
// A request with epoch 0 names everything and asks for a session; the later ones
// count from 1. Epoch -1 closes it. A session outlives its connection, as in
// Kafka: it goes when it is closed, when its last partition is forgotten, or when
// another needs its place. An answer with session 0 has none, and the client
// names everything in its next request too.

const (
	codeFetchSessionTopicIDError int16 = 106

	openFetchSession  int32 = 0
	closeFetchSession int32 = -1

	// maxFetchSessions bounds those of a broker: Kafka's
	// max.incremental.fetch.session.cache.slots.
	maxFetchSessions = 1000
	// fetchSessionIdle is how long, in ms, a session must be unused before any
	// other may have its place; and how old it must be before a larger one may.
	fetchSessionIdle = 120_000
	// maxConnectionFetchSessions bounds those that one connection has opened. A
	// client needs one; of more than these the one unused longest goes.
	maxConnectionFetchSessions = 10
	// maxConnectionFetchPartitions bounds the partitions in all of them.
	maxConnectionFetchPartitions = 100_000
	// maxFetchSessionPartitions bounds those of all sessions of a broker, of
	// some 120 bytes each.
	maxFetchSessionPartitions = 500_000
)

// fetchSessions are all of a server's. The zero value has none.
type fetchSessions struct {
	mu         sync.Mutex // guards what follows; taken before a session's
	byID       map[int32]*fetchSession
	partitions int // in all of them
}

// fetchOwner is a connection that opens sessions. The sessions' mutex guards it.
type fetchOwner struct{ sessions, partitions int }

// fetchSession is what one client fetches.
type fetchSession struct {
	id    int32
	owner *fetchOwner
	byID  bool // topics are known by id: it was opened with version 13 or later

	// Guarded by fetchSessions.mu.
	opened, used int64 // ms
	counted      int   // the partitions that the bounds count for it

	mu          sync.Mutex // guards what follows; innermost
	epoch       int32      // of the next request
	topics      map[fetchTopicID]*sessionTopic
	partitions  map[fetchPartitionID]*sessionPartition
	first, last *sessionPartition // in the order in which they are read
}

// fetchTopicID is a name, or an id with no name.
type fetchTopicID struct {
	name string
	id   [16]byte
}

type fetchPartitionID struct {
	topic  *sessionTopic
	number int32
}

type sessionTopic struct {
	fetchTopicID
	partitions int
}

// sessionPartition is what the client asks of a partition, and what it knows.
type sessionPartition struct {
	topic          *sessionTopic
	before, behind *sessionPartition
	number         int32
	epoch          int32 // leader epoch that the client believes in
	max            int32
	offset         int64
	fetchKnown
}

// fetchKnown is what a client has been told of a partition.
type fetchKnown struct{ high, lastStable, start int64 }

// fetchNothingKnown is before the first answer, and after an error: then all is
// told once the error is over.
var fetchNothingKnown = fetchKnown{-1, -1, -1}

// close ends a session, if there is such a one.
func (all *fetchSessions) close(id int32) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if s := all.byID[id]; s != nil {
		all.remove(s)
	}
}

func (all *fetchSessions) remove(s *fetchSession) {
	delete(all.byID, s.id)
	s.owner.sessions--
	all.count(s, 0)
}

// count has the bounds count so many partitions for s.
func (all *fetchSessions) count(s *fetchSession, partitions int) {
	all.partitions += partitions - s.counted
	s.owner.partitions += partitions - s.counted
	s.counted = partitions
}

// open makes a session of what a full request has named, and been answered. It
// returns the session's id, or 0 if there is no room for it.
func (all *fetchSessions) open(o *fetchOwner, f *fetched, now int64) int32 {
	s := &fetchSession{
		owner: o, byID: f.version >= 13, opened: now, used: now, epoch: 1,
		topics: map[fetchTopicID]*sessionTopic{}, partitions: map[fetchPartitionID]*sessionPartition{},
	}
	next := 0
	for i := range f.topics {
		t := &f.topics[i]
		for range t.partitions {
			p := &f.partitions[next]
			next++
			k := s.add(fetchTopic(t.name, t.id, s.byID), p.number)
			if k == nil || len(s.partitions) > maxConnectionFetchPartitions {
				return 0
			}
			k.epoch, k.max, k.offset = p.epoch, int32(p.max), p.offset
			f.kept = append(f.kept, k)
		}
	}
	for i, k := range f.kept { // once all have their places
		s.tell(k, &f.partitions[i])
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if !all.place(s) {
		return 0
	}
	for s.id == 0 || all.byID[s.id] != nil {
		s.id = rand.Int32N(math.MaxInt32) + 1
	}
	if all.byID == nil {
		all.byID = map[int32]*fetchSession{}
	}
	all.byID[s.id] = s
	o.sessions++
	all.count(s, len(s.partitions))
	return s.id
}

// place makes room for a new session, in which others may have to go: of the
// same connection the one unused longest; of others only one that was not used
// for two minutes or, if there is none, the smallest that is smaller, and older
// than that.
func (all *fetchSessions) place(s *fetchSession) bool {
	size := len(s.partitions)
	for s.owner.sessions >= maxConnectionFetchSessions || s.owner.partitions+size > maxConnectionFetchPartitions {
		all.remove(all.oldest(s.owner))
	}
	if !all.evict(size, s.used) {
		return false
	}
	if len(all.byID) < maxFetchSessions {
		return true
	}
	var least *fetchSession
	for _, o := range all.byID {
		if o.counted < size && s.used-o.opened > fetchSessionIdle && (least == nil || o.counted < least.counted) {
			least = o
		}
	}
	if least != nil {
		all.remove(least)
	}
	return least != nil
}

// evict removes sessions that are idle until there is room for so many
// partitions more, and for a session if possible. It is false if there is no
// room for the partitions.
func (all *fetchSessions) evict(partitions int, now int64) bool {
	for {
		fits := all.partitions+partitions <= maxFetchSessionPartitions
		if fits && len(all.byID) < maxFetchSessions {
			return true
		}
		s := all.oldest(nil)
		if s == nil || now-s.used <= fetchSessionIdle {
			return fits
		}
		all.remove(s)
	}
}

// oldest is the session unused longest, of one owner or of all; nil if there is
// none.
func (all *fetchSessions) oldest(o *fetchOwner) (oldest *fetchSession) {
	for _, s := range all.byID {
		if (o == nil || s.owner == o) && (oldest == nil || s.used < oldest.used) {
			oldest = s
		}
	}
	return oldest
}

// next takes a request that goes on with a session, and returns the session with
// the epoch of the request behind it. There is no session, and no error, if its
// last partition was forgotten.
func (all *fetchSessions) next(r *kmsg.FetchRequest, now int64) (s *fetchSession, epoch int32, code int16) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if s = all.byID[r.SessionID]; s == nil {
		return nil, 0, codeFetchSessionIDNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.SessionEpoch != s.epoch:
		return nil, 0, codeInvalidFetchSessionEpoch
	case s.byID != (r.Version >= 13):
		return nil, 0, codeFetchSessionTopicIDError
	}
	room := maxConnectionFetchPartitions - s.owner.partitions + s.counted
	fits := s.update(r, room)
	all.count(s, len(s.partitions))
	s.used = now
	switch {
	case !fits || all.partitions > maxFetchSessionPartitions && !all.evict(0, now):
		// The client begins anew, and is told then that it has no session.
		all.remove(s)
		return nil, 0, codeFetchSessionIDNotFound
	case len(s.partitions) == 0:
		all.remove(s)
		return nil, 0, codeNone
	}
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1 // behind the largest
	}
	return s, s.epoch, codeNone
}

// update adds what a request names, and then takes out what it forgets. It is
// false, with some of that done, if there is more than room for so many.
func (s *fetchSession) update(r *kmsg.FetchRequest, room int) bool {
	for i := range r.Topics {
		t := &r.Topics[i]
		id := fetchTopic(t.Topic, t.TopicID, s.byID)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			k := s.add(id, p.Partition)
			if k == nil || len(s.partitions) > room {
				return false
			}
			k.epoch, k.max, k.offset = p.CurrentLeaderEpoch, p.PartitionMaxBytes, p.FetchOffset
		}
	}
	for i := range r.ForgottenTopics {
		t := &r.ForgottenTopics[i]
		topic := s.topics[fetchTopic(t.Topic, t.TopicID, s.byID)]
		for _, number := range t.Partitions {
			if k := s.partitions[fetchPartitionID{topic, number}]; k != nil {
				s.forget(k)
			}
		}
	}
	return true
}

func fetchTopic(name string, id [16]byte, byID bool) fetchTopicID {
	if byID {
		return fetchTopicID{id: id}
	}
	return fetchTopicID{name: name}
}

// add is the place of a partition, the last if it is new. It is nil if no topic
// can have that name: so long ones are not kept.
func (s *fetchSession) add(id fetchTopicID, number int32) *sessionPartition {
	if len(id.name) > maxTopicName {
		return nil
	}
	t := s.topics[id]
	if t == nil {
		t = &sessionTopic{fetchTopicID: id}
		s.topics[id] = t
	}
	k := s.partitions[fetchPartitionID{t, number}]
	if k == nil {
		k = &sessionPartition{topic: t, number: number, fetchKnown: fetchNothingKnown}
		s.partitions[fetchPartitionID{t, number}] = k
		t.partitions++
		s.append(k)
	}
	return k
}

func (s *fetchSession) forget(k *sessionPartition) {
	s.unlink(k)
	delete(s.partitions, fetchPartitionID{k.topic, k.number})
	if k.topic.partitions--; k.topic.partitions == 0 {
		delete(s.topics, k.topic.fetchTopicID)
	}
}

func (s *fetchSession) append(k *sessionPartition) {
	k.before, k.behind = s.last, nil
	if s.last == nil {
		s.first = k
	} else {
		s.last.behind = k
	}
	s.last = k
}

func (s *fetchSession) unlink(k *sessionPartition) {
	if k.before == nil {
		s.first = k.behind
	} else {
		k.before.behind = k.behind
	}
	if k.behind == nil {
		s.last = k.before
	} else {
		k.behind.before = k.before
	}
}

// list puts what the session fetches into f, in order; nothing is looked up yet.
func (s *fetchSession) list(f *fetched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := s.first; k != nil; k = k.behind {
		f.kept = append(f.kept, k)
		f.partitions = append(f.partitions, asked(k.number, k.epoch, k.offset, k.max))
	}
}

// tell notes what an answer says of a partition, and whether the client does not
// know it yet.
func (s *fetchSession) tell(k *sessionPartition, p *fetchedPartition) (news bool) {
	known := fetchKnown{p.high, p.lastStable, p.start}
	records := p.to > p.from
	news = records || p.code != codeNone || known != k.fetchKnown
	if p.code != codeNone {
		known = fetchNothingKnown
	}
	k.fetchKnown = known
	if records {
		s.unlink(k)
		s.append(k)
	}
	return news
}

// finish leaves in f what the client does not know yet. It is false if another
// request of the session has come meanwhile, which makes this one a duplicate
// that nobody waits for.
func (s *fetchSession) finish(epoch int32, f *fetched) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return false
	}
	told := f.partitions[:0]
	var last *sessionTopic
	for i, k := range f.kept {
		p := f.partitions[i]
		if !s.tell(k, &p) {
			continue
		}
		if k.topic != last {
			last = k.topic
			f.topics = append(f.topics, fetchedTopic{name: last.name, id: last.id})
		}
		f.topics[len(f.topics)-1].partitions++
		told = append(told, p)
	}
	clear(f.partitions[len(told):])
	f.partitions = told
	return true
}
