// Command registration compares three ways to do what follows when a user
// registers: a mail, an SMS, points and a coupon.
//
// One after the other, the user waits for the sum of four services. In
// parallel, for the slowest of them, and registration fails when one of them
// is down. Through a topic, only until the event is on disk: each service has
// a durable subscription and does its part when it can, also the one that was
// down at the time.
//
// The broker runs inside this program; the services are HTTP servers on the
// loopback interface that take as long as such services do.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/embed"
)

// registration is the event.
type registration struct {
	User  string `msgpack:"user" json:"user"`
	Mail  string `msgpack:"mail" json:"mail"`
	Phone string `msgpack:"phone" json:"phone"`
}

// service is one of the four, behind HTTP.
type service struct {
	name   string
	takes  time.Duration
	server *httptest.Server
	down   atomic.Bool
	done   sync.Map // user: how often
	count  atomic.Int64
}

func startService(name string, takes time.Duration) *service {
	s := &service{name: name, takes: takes}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			http.Error(w, s.name+" is down", http.StatusServiceUnavailable)
			return
		}
		var reg registration
		if err := json.NewDecoder(r.Body).Decode(&reg); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(s.takes)
		// A service that hears of a user twice does its part once.
		if _, again := s.done.LoadOrStore(reg.User, true); !again {
			s.count.Add(1)
		}
	}))
	return s
}

func (s *service) call(ctx context.Context, reg registration) error {
	body, err := json.Marshal(reg)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(s.name + ": " + response.Status)
	}
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

const users = 20

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	services := []*service{
		startService("mail", 50*time.Millisecond), startService("sms", 40*time.Millisecond),
		startService("points", 20*time.Millisecond), startService("coupon", 20*time.Millisecond),
	}
	for _, s := range services {
		defer s.server.Close()
	}
	dir, err := os.MkdirTemp("", "registration")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := embed.Start(embed.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer b.Close()

	sequential := respond("one after the other", func(r registration) error {
		for _, s := range services {
			if err := s.call(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
	parallel := respond("in parallel", func(r registration) error {
		failed := make(chan error, len(services))
		for _, s := range services {
			go func() { failed <- s.call(ctx, r) }()
		}
		var err error
		for range services {
			err = errors.Join(err, <-failed)
		}
		return err
	})
	through, err := throughTopic(ctx, b, services)
	if err != nil {
		return err
	}
	fmt.Printf("\nthe topic answers %.0f times sooner than one after the other, %.0f times sooner than in parallel\n",
		float64(sequential)/float64(through), float64(parallel)/float64(through))
	return nil
}

// respond registers users and prints the mean response time.
func respond(how string, register func(registration) error) time.Duration {
	begin := time.Now()
	for i := range users {
		name := fmt.Sprintf("%s %d", how, i)
		if err := register(registration{User: name, Mail: name + "@example.org", Phone: "+49"}); err != nil {
			log.Fatalf("%s: %v", how, err)
		}
	}
	mean := time.Since(begin) / users
	fmt.Printf("%-22s %8.2f ms\n", how, float64(mean.Microseconds())/1000)
	return mean
}

// throughTopic publishes the registrations while the SMS service is down, and
// waits until all four have done their part.
func throughTopic(ctx context.Context, b *embed.Server, services []*service) (time.Duration, error) {
	connect := func(id string) (*polylog.Topic[registration], func() error, error) {
		c, err := polylog.Connect(ctx, "polylog://embedded", polylog.WithDialer(b.Dial), polylog.WithClientID(id))
		if err != nil {
			return nil, nil, err
		}
		s, err := c.Session(ctx, polylog.IndividualAcknowledge)
		if err != nil {
			return nil, nil, errors.Join(err, c.Close())
		}
		return polylog.TopicOf[registration](s, "registered"), c.Close, nil
	}
	// A service that is down must not make dead letters of what waits for it.
	if _, err := b.Broker().CreateDestination(ctx, "registered", destination.KindTopic, map[string]string{"max.deliveries": "0"}); err != nil {
		return 0, err
	}
	before := make([]int64, len(services))
	listening, stop := context.WithCancel(ctx)
	defer stop()
	var listeners sync.WaitGroup
	defer listeners.Wait()
	defer stop()
	for i, s := range services {
		before[i] = s.count.Load()
		topic, closeConnection, err := connect(s.name)
		if err != nil {
			return 0, err
		}
		defer closeConnection()
		sub, err := topic.Durable(ctx, s.name)
		if err != nil {
			return 0, err
		}
		listeners.Go(func() { serve(listening, sub, s) })
	}
	services[1].down.Store(true) // for longer than a message is usually tried
	topic, closeConnection, err := connect("web")
	if err != nil {
		return 0, err
	}
	defer closeConnection()
	mean := respond("through a topic", func(r registration) error {
		_, err := topic.Publish(ctx, r)
		return err
	})
	if err := until(ctx, func() bool { return services[0].count.Load()-before[0] == users }); err != nil {
		return 0, err
	}
	fmt.Printf("  mail is done with all %d; sms is down and has done %d\n", users, services[1].count.Load()-before[1])
	services[1].down.Store(false)
	for i, s := range services {
		if err := until(ctx, func() bool { return s.count.Load()-before[i] == users }); err != nil {
			return 0, fmt.Errorf("%s has done %d of %d: %w", s.name, s.count.Load()-before[i], users, err)
		}
	}
	fmt.Printf("  sms is back: every service has served all %d\n", users)
	return mean, nil
}

// serve does a service's part of each registration; what fails comes again.
func serve(ctx context.Context, sub *polylog.Subscription[registration], s *service) {
	for d, err := range sub.Consume(ctx) {
		if err != nil {
			return
		}
		settle := d.Ack
		if s.call(ctx, d.Value) != nil {
			settle = func(ctx context.Context) error { return d.Release(ctx, 50*time.Millisecond) }
		}
		if err := settle(ctx); err != nil && ctx.Err() == nil {
			log.Printf("%s: %v", s.name, err)
		}
	}
}

func until(ctx context.Context, done func() bool) error {
	for tick := time.NewTicker(2 * time.Millisecond); !done(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
