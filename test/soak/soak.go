package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/test/child"
)

// soak is one run.
type soak struct {
	binary            string
	time, round, kill time.Duration
	dir               string
	keeps             bool // dir is the user's

	random *rand.Rand
	listen string
	broker *child.Broker
	slots  []*slot
	tails  map[uint32]*tail
	events []event // read and not noted yet

	state
}

// state is what a run leaves for the next one in its directory.
type state struct {
	Seed        uint64
	Elapsed     time.Duration
	Number      uint32           // of the next client
	Offsets     map[uint32]int64 // how far the journals were noted, by client
	Ledger      *ledger
	BrokerKills int
	ClientKills int
	Deaths      int // of transaction managers, by themselves
	RecoveryMS  int64
	Rounds      int
}

// result is what a run has seen.
type result struct {
	Seed        uint64   `json:"seed"`
	Seconds     int      `json:"seconds"`
	Rounds      int      `json:"rounds"`
	BrokerKills int      `json:"broker_kills"`
	ClientKills int      `json:"client_kills"`
	Deaths      int      `json:"transaction_manager_deaths"`
	RecoveryMS  int64    `json:"slowest_recovery_ms"`
	Totals      totals   `json:"account"`
	Faults      faults   `json:"faults"`
	Examples    []string `json:"examples,omitempty"`
}

func (r result) String() string {
	t, f := r.Totals, r.Faults
	s := fmt.Sprintf("%d s (seed %d): broker killed %d times, clients %d times, transaction managers died %d times; slowest restart %d ms\n"+
		"%d confirmed, %d in doubt: %d acknowledged, %d dead-lettered, %d expired\n"+
		"messages taken by units of work: %d committed, %d rolled back, %d in doubt\n"+
		"lost %d, came back %d, ghosts %d, torn %d, doubled %d, out of order %d, unbalanced %d, left over %d",
		r.Seconds, r.Seed, r.BrokerKills, r.ClientKills, r.Deaths, r.RecoveryMS,
		t.Confirmed, t.InDoubt, t.Acknowledged, t.Dead, t.Expired, t.Units, t.RolledBack, t.UnitsInDoubt,
		f.Lost, f.CameBack, f.Ghosts, f.Torn, f.Doubled, f.Disorder, f.Unbalanced, f.LeftOver)
	for _, e := range r.Examples {
		s += "\n  " + e
	}
	return s
}

// slot is a place for a client, which is filled again when that dies.
type slot struct {
	role   string
	number uint32 // of the slot
	cmd    *exec.Cmd
	stdin  io.Closer
	ended  chan error
}

func (s *soak) run(ctx context.Context, seed uint64) (r result, err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "soak"); err != nil {
			return r, err
		}
		defer os.RemoveAll(s.dir)
	} else if s.keeps = true; os.MkdirAll(s.dir, 0o755) != nil {
		return r, fmt.Errorf("%s is no directory to keep the run in", s.dir)
	}
	if err := s.load(seed); err != nil {
		return r, err
	}
	s.random = rand.New(rand.NewPCG(s.Seed, uint64(s.Rounds)))
	for _, role := range []string{"producer", "producer", "consumer", "consumer", "transactor", "transactor"} {
		number := uint32(0)
		for _, o := range s.slots {
			if o.role == role {
				number++
			}
		}
		s.slots = append(s.slots, &slot{role: role, number: number})
	}
	if s.listen, err = freeAddress(); err != nil {
		return r, err
	}
	if err := s.startBroker(); err != nil {
		return r, err
	}
	defer func() { s.broker.Kill() }()
	if err := s.prepare(ctx); err != nil {
		return r, fmt.Errorf("prepare: %w", err)
	}
	for s.Elapsed < s.time {
		if err := s.oneRound(ctx); err != nil {
			return r, fmt.Errorf("round %d (seed %d): %w", s.Rounds, s.Seed, err)
		}
	}
	if err := s.drain(ctx); err != nil {
		return r, fmt.Errorf("drain (seed %d): %w", s.Seed, err)
	}
	r = result{
		Seed: s.Seed, Seconds: int(s.Elapsed.Seconds()), Rounds: s.Rounds, BrokerKills: s.BrokerKills, ClientKills: s.ClientKills,
		Deaths: s.Deaths, RecoveryMS: s.RecoveryMS, Totals: s.Ledger.finish(),
	}
	r.Faults, r.Examples = s.Ledger.Faults, s.Ledger.Examples
	return r, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *soak) stateName() string { return filepath.Join(s.dir, "state") }

// load takes up what a run before has left. What its clients did after its
// last account is in their journals.
func (s *soak) load(seed uint64) error {
	s.state = state{Seed: seed, Number: 1, Offsets: map[uint32]int64{}, Ledger: newLedger()}
	s.tails = map[uint32]*tail{}
	f, err := os.Open(s.stateName())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s.state = state{}
	if err := gob.NewDecoder(f).Decode(&s.state); err != nil {
		return err
	}
	s.Ledger.pending = map[uint32]uint32{}
	names, err := filepath.Glob(filepath.Join(s.dir, "events-*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := strconv.ParseUint(filepath.Base(name)[len("events-"):], 10, 32)
		if err != nil {
			return err
		}
		s.Number = max(s.Number, uint32(n)+1)
		if err := s.follow(uint32(n)); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "goes on after %s\n", s.Elapsed.Round(time.Second))
	return s.note(0)
}

func (s *soak) save() error {
	f, err := os.Create(s.stateName() + ".new")
	if err != nil {
		return err
	}
	if err := errors.Join(gob.NewEncoder(f).Encode(&s.state), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(s.stateName()+".new", s.stateName())
}

func (s *soak) startBroker() (err error) {
	if s.broker, err = child.Start(s.binary, filepath.Join(s.dir, "data"), nil, "--native-listen", s.listen); err != nil {
		return err
	}
	s.RecoveryMS = max(s.RecoveryMS, s.broker.Took.Milliseconds())
	return nil
}

func (s *soak) connect(ctx context.Context, more ...polylog.Option) (*polylog.Connection, error) {
	return polylog.Connect(ctx, "polylog://"+s.listen, more...)
}

// prepare makes the queues, and the subscriptions, which must be there before
// anything is published.
func (s *soak) prepare(ctx context.Context) error {
	c, err := s.connect(ctx, polylog.WithClientID(durableID))
	if err != nil {
		return err
	}
	defer c.Close()
	for v := range views {
		if !v.queue() {
			continue
		}
		_, err := c.Admin().Create(ctx, polylog.DestinationSpec{Name: viewNames[v], Kind: "queue", Settings: settings[v]})
		if err != nil && !errors.Is(err, polylog.ErrExists) {
			return err
		}
	}
	_, err = c.Admin().Create(ctx, polylog.DestinationSpec{Name: newsTopic, Kind: "topic", Settings: map[string]string{"max.deliveries": "0"}})
	if err != nil && !errors.Is(err, polylog.ErrExists) {
		return err
	}
	session, err := c.Session(ctx, polylog.IndividualAcknowledge)
	if err != nil {
		return err
	}
	t := polylog.TopicOf[item](session, newsTopic)
	if _, err := t.Durable(ctx, durableSub); err != nil {
		return err
	}
	// The name of a shared subscription is of the client id; the clients have none.
	other, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	if session, err = other.Session(ctx, polylog.IndividualAcknowledge); err != nil {
		return err
	}
	_, err = polylog.TopicOf[item](session, newsTopic).SharedDurable(ctx, sharedSub)
	return err
}

// oneRound lets clients work, kills them and the broker, and draws the account.
func (s *soak) oneRound(ctx context.Context) error {
	began := time.Now()
	end := began.Add(min(s.round, s.time-s.Elapsed))
	for _, slot := range s.slots {
		if err := s.fill(slot); err != nil {
			return err
		}
	}
	nextBroker, nextClient := s.after(s.kill), s.after(s.kill/2)
	for now := began; now.Before(end); now = time.Now() {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, s.stopClients())
		}
		if now.After(nextBroker) {
			nextBroker = s.after(s.kill)
			s.broker.Kill()
			if err := s.startBroker(); err != nil {
				return err
			}
			s.BrokerKills++
		}
		if now.After(nextClient) {
			nextClient = s.after(s.kill / 2)
			slot := s.slots[s.random.IntN(len(s.slots))]
			_ = slot.cmd.Process.Kill()
			<-slot.ended
			s.ClientKills++
			if err := s.fill(slot); err != nil {
				return err
			}
		}
		for _, slot := range s.slots {
			if err := s.refill(slot); err != nil {
				return err
			}
		}
		if err := s.note(time.Second); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.Elapsed += time.Since(began)
	if err := s.stopClients(); err != nil {
		return err
	}
	if err := s.note(0); err != nil {
		return err
	}
	if err := s.balance(ctx); err != nil {
		return err
	}
	s.Rounds++
	s.progress()
	return s.save()
}

// after is a time around d from now.
func (s *soak) after(d time.Duration) time.Time {
	return time.Now().Add(d/2 + time.Duration(s.random.Int64N(int64(d))))
}

func (s *soak) fill(slot *slot) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	number := s.Number
	s.Number++
	slot.cmd = exec.Command(self, "client", slot.role, "polylog://"+s.listen, s.dir, fmt.Sprint(number), fmt.Sprint(slot.number))
	slot.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	slot.cmd.Stderr = os.Stderr
	if slot.stdin, err = slot.cmd.StdinPipe(); err != nil {
		return err
	}
	// The journal is there before its writer, for whoever reads it.
	j, err := openJournal(journalName(s.dir, number))
	if err != nil {
		return err
	}
	if err := errors.Join(j.f.Close(), s.follow(number)); err != nil {
		return err
	}
	if err := slot.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := slot.cmd, make(chan error, 1)
	slot.ended = ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

func (s *soak) follow(number uint32) error {
	f, err := os.Open(journalName(s.dir, number))
	if err != nil {
		return err
	}
	s.tails[number] = &tail{f: f, offset: s.Offsets[number]}
	return nil
}

// refill puts another in the place of a transaction manager that has died.
func (s *soak) refill(slot *slot) error {
	select {
	case err := <-slot.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 7 {
			s.Deaths++
			return s.fill(slot)
		}
		return fmt.Errorf("a %s ended: %w", slot.role, err)
	default:
		return nil
	}
}

// stopClients asks all to end, and waits for them.
func (s *soak) stopClients() error {
	for _, slot := range s.slots {
		slot.stdin.Close()
	}
	for _, slot := range s.slots {
		select {
		case <-slot.ended:
		case <-time.After(20 * time.Second):
			_ = slot.cmd.Process.Signal(syscall.SIGQUIT) // for its goroutines
			<-slot.ended
			return fmt.Errorf("a %s does not end", slot.role)
		}
	}
	return nil
}

// note reads the journals, and takes in what is older than lag: the order of
// times is that of the ledger, and what is younger may have something before
// it that is not written yet.
func (s *soak) note(lag time.Duration) error {
	numbers := slices.Sorted(maps.Keys(s.tails))
	for _, n := range numbers {
		var err error
		if s.events, err = s.tails[n].read(s.events); err != nil {
			return err
		}
		s.Offsets[n] = s.tails[n].offset
	}
	slices.SortStableFunc(s.events, func(a, b event) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	until := clock() - int64(lag)
	i := 0
	for ; i < len(s.events) && (lag == 0 || s.events[i].At <= until); i++ {
		s.Ledger.note(s.events[i])
	}
	s.events = slices.Delete(s.events, 0, i)
	if lag == 0 { // nobody writes any more
		for n, t := range s.tails {
			t.f.Close()
			delete(s.tails, n)
		}
	}
	return nil
}

// counts are how many messages the broker has, by view.
func (s *soak) counts(ctx context.Context) (counts [views]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return counts, err
	}
	defer c.Close()
	infos, err := c.Admin().Destinations(ctx, "", false)
	if err != nil {
		return counts, err
	}
	for _, d := range infos {
		if v := slices.Index(viewNames[:], d.Name); v >= 0 && d.Queue != nil {
			counts[v] += total(*d.Queue)
		}
		if d.Name == "DLQ."+viewNames[viewPoison] && d.Queue != nil {
			counts[viewPoison] += total(*d.Queue)
		}
	}
	subs, err := c.Admin().Subscriptions(ctx, newsTopic)
	for _, sub := range subs {
		if v := slices.Index(viewNames[:], sub.Name); v >= 0 {
			counts[v] += total(sub.View)
		}
	}
	return counts, err
}

func total(v polylog.ViewInfo) int64 { return v.Waiting + v.Acquired + v.Scheduled + v.Held }

// balance compares the broker's counts with the ledger's.
func (s *soak) balance(ctx context.Context) error {
	counts, err := s.counts(ctx)
	if err != nil {
		return err
	}
	for v, n := range counts {
		if least, most := s.Ledger.bounds(view(v)); n < least || n > most {
			s.Ledger.fault(&s.Ledger.Faults.Unbalanced, "round %d: the broker has %d messages in %s, the ledger between %d and %d", s.Rounds, n, viewNames[v], least, most)
		}
	}
	return nil
}

func (s *soak) progress() {
	messages := 0
	for _, producers := range s.Ledger.Messages {
		for _, m := range producers {
			messages += len(m)
		}
	}
	fmt.Fprintf(os.Stderr, "%s of %s: %d messages, %d kills of the broker, %d of clients, %d deaths; faults %+v\n",
		s.Elapsed.Round(time.Second), s.time, messages, s.BrokerKills, s.ClientKills, s.Deaths, s.Ledger.Faults)
}

// drain has consumers take what is left, without any kills.
func (s *soak) drain(ctx context.Context) error {
	var takers []*slot
	for _, slot := range s.slots {
		if slot.role != "producer" {
			takers = append(takers, slot)
		}
	}
	s.slots = takers
	for _, slot := range s.slots {
		if err := s.fill(slot); err != nil {
			return err
		}
	}
	var counts [views]int64
	for limit := time.Now().Add(2 * time.Minute); ; {
		for _, slot := range s.slots {
			if err := s.refill(slot); err != nil {
				return err
			}
		}
		var err error
		if counts, err = s.counts(ctx); err != nil {
			return err
		}
		if counts == ([views]int64{}) || time.Now().After(limit) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := s.stopClients(); err != nil {
		return err
	}
	for v, n := range counts {
		if n != 0 {
			s.Ledger.fault(&s.Ledger.Faults.LeftOver, "%d messages are left in %s", n, viewNames[v])
		}
	}
	return s.note(0)
}
