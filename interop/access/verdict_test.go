package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/go-stomp/stomp/v3"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/session"
)

// door asks for operations as a user, and returns whether they were done; what was
// neither done nor refused for want of a right is an error.
type door func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(name string) (bool, error)

const short = 10 * time.Second

// verdict is what a client's error says.
func verdict(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, polylog.ErrUnauthorized), strings.Contains(err.Error(), "may not"), strings.Contains(err.Error(), "unauthorized-access"):
		return false, nil
	}
	return false, err
}

var doors = map[string]door{
	"native": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		c, err := polylog.Connect(t.Context(), "polylog://"+s.Addr().String(), polylog.WithUser(user, user+"'s password"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		in, err := c.Session(t.Context(), polylog.IndividualAcknowledge)
		if err != nil {
			t.Fatal(err)
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend: func(name string) (bool, error) {
				_, err := polylog.QueueOf[[]byte](in, name).Put(t.Context(), []byte("x"))
				return verdict(err)
			},
			session.OperationConsume: func(name string) (bool, error) {
				ctx, cancel := context.WithTimeout(t.Context(), short)
				defer cancel()
				d, err := polylog.QueueOf[[]byte](in, name).Take(ctx)
				if err == nil {
					err = d.Ack(ctx)
				}
				return verdict(err)
			},
			session.OperationDescribe: func(name string) (bool, error) {
				_, err := c.Admin().Describe(t.Context(), name)
				return verdict(err)
			},
			session.OperationAlterConfigs: func(name string) (bool, error) {
				_, err := c.Admin().Alter(t.Context(), polylog.DestinationSpec{Name: name, Settings: map[string]string{"retention.ms": "-1"}})
				return verdict(err)
			},
		}
	},
	"Kafka": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		c, err := kgo.NewClient(
			kgo.SeedBrokers(s.KafkaAddrs()[0].String()), kgo.MaxVersions(kversion.V3_0_0()), // which name topics
			kgo.SASL(scram.Auth{User: user, Pass: user + "'s password"}.AsSha512Mechanism()),
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		code := func(n int16, err error) (bool, error) {
			switch {
			case err != nil:
				return false, err
			case n == 29:
				return false, nil
			case n == 0:
				return true, nil
			}
			return false, fmt.Errorf("code %d", n)
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend: func(name string) (bool, error) {
				q := kmsg.NewPtrProduceRequest()
				q.Acks, q.TimeoutMillis = 1, 5000
				topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
				topic.Topic, topic.Partitions = name, []kmsg.ProduceRequestTopicPartition{partition}
				q.Topics = append(q.Topics, topic)
				r, err := q.RequestWith(t.Context(), c)
				if err == nil && r.Topics[0].Partitions[0].ErrorCode != 29 {
					return true, nil // no batch is in it: that it may is all that is asked
				}
				return err == nil && false, err
			},
			session.OperationConsume: func(name string) (bool, error) {
				q := kmsg.NewPtrFetchRequest()
				q.MaxBytes = 1 << 20
				topic, partition := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
				partition.PartitionMaxBytes = 1 << 20
				topic.Topic, topic.Partitions = name, []kmsg.FetchRequestTopicPartition{partition}
				q.Topics = append(q.Topics, topic)
				r, err := q.RequestWith(t.Context(), c)
				if err != nil {
					return false, err
				}
				return code(r.Topics[0].Partitions[0].ErrorCode, nil)
			},
			session.OperationDescribe: func(name string) (bool, error) {
				q := kmsg.NewPtrMetadataRequest()
				topic := kmsg.NewMetadataRequestTopic()
				topic.Topic = &name
				q.Topics = append(q.Topics, topic)
				r, err := q.RequestWith(t.Context(), c)
				if err != nil {
					return false, err
				}
				return code(r.Topics[0].ErrorCode, nil)
			},
			session.OperationAlterConfigs: func(name string) (bool, error) {
				q := kmsg.NewPtrIncrementalAlterConfigsRequest()
				of := kmsg.NewIncrementalAlterConfigsRequestResource()
				config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				value := "-1"
				config.Name, config.Value = "retention.ms", &value
				of.ResourceType, of.ResourceName, of.Configs = kmsg.ConfigResourceTypeTopic, name, append(of.Configs, config)
				q.Resources = append(q.Resources, of)
				r, err := q.RequestWith(t.Context(), c)
				if err != nil {
					return false, err
				}
				return code(r.Resources[0].ErrorCode, nil)
			},
		}
	},
	"AMQP": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		c, err := amqp.Dial(t.Context(), "amqp://"+s.AMQPAddr().String(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain(user, user+"'s password")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		in, err := c.NewSession(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend: func(name string) (bool, error) {
				l, err := in.NewSender(t.Context(), name, nil)
				if err == nil {
					err = l.Send(t.Context(), amqp.NewMessage([]byte("x")), nil)
				}
				return verdict(err)
			},
			session.OperationConsume: func(name string) (bool, error) {
				ctx, cancel := context.WithTimeout(t.Context(), short)
				defer cancel()
				l, err := in.NewReceiver(ctx, name, nil)
				if err == nil {
					defer l.Close(ctx)
					var m *amqp.Message
					if m, err = l.Receive(ctx, nil); err == nil {
						err = l.AcceptMessage(ctx, m)
					}
				}
				return verdict(err)
			},
		}
	},
	"STOMP": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		dial := func() *stomp.Conn { // an ERROR ends it
			c, err := stomp.Dial("tcp", s.STOMPAddr().String(), stomp.ConnOpt.Login(user, user+"'s password"))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend: func(name string) (bool, error) {
				c := dial()
				defer c.MustDisconnect()
				return verdict(c.Send("/queue/"+name, "", []byte("x"), stomp.SendOpt.Receipt))
			},
			session.OperationConsume: func(name string) (bool, error) {
				c := dial()
				defer c.MustDisconnect()
				sub, err := c.Subscribe("/queue/"+name, stomp.AckClientIndividual)
				if err != nil {
					return verdict(err)
				}
				select {
				case m := <-sub.C:
					return verdict(m.Err)
				case <-time.After(short):
					return false, errors.New("nothing came")
				}
			},
		}
	},
	"HTTP": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		ask := func(method, path, body string) (bool, error) {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr().String()+path, strings.NewReader(body))
			if err != nil {
				return false, err
			}
			r.SetBasicAuth(user, user+"'s password")
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				return false, err
			}
			defer response.Body.Close()
			_, _ = io.Copy(io.Discard, response.Body) // so that the connection stays, whose password is known
			switch response.StatusCode {
			case http.StatusOK, http.StatusCreated:
				return true, nil
			case http.StatusForbidden:
				return false, nil
			}
			return false, errors.New(response.Status)
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend: func(name string) (bool, error) { return ask("POST", "/v1/queues/"+name+"/messages", "x") },
			session.OperationConsume: func(name string) (bool, error) {
				return ask("POST", "/v1/queues/"+name+"/take?ack=auto&timeout=10s", "")
			},
			session.OperationBrowse:   func(name string) (bool, error) { return ask("GET", "/v1/queues/"+name+"/messages?limit=1", "") },
			session.OperationDescribe: func(name string) (bool, error) { return ask("GET", "/v1/destinations/"+name, "") },
		}
	},
	"memcache": func(t *testing.T, s *embed.Server, user string) map[session.Operation]func(string) (bool, error) {
		c, err := net.Dial("tcp", s.MemcacheAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ask := func(text, want string) (bool, error) {
			_ = c.SetDeadline(time.Now().Add(short))
			if _, err := c.Write([]byte(text)); err != nil {
				return false, err
			}
			answer := ""
			for b := make([]byte, 4096); !strings.HasSuffix(answer, "\r\n") || strings.HasPrefix(answer, "VALUE") && !strings.HasSuffix(answer, "END\r\n"); {
				n, err := c.Read(b)
				if err != nil {
					return false, err
				}
				answer += string(b[:n])
			}
			if strings.HasPrefix(answer, want) {
				return true, nil
			}
			return verdict(errors.New(answer))
		}
		login := user + " " + user + "'s password"
		if in, err := ask(fmt.Sprintf("set any 0 0 %d\r\n%s\r\n", len(login), login), "STORED"); err != nil || !in {
			t.Fatal(err)
		}
		return map[session.Operation]func(string) (bool, error){
			session.OperationSend:    func(name string) (bool, error) { return ask("set "+name+" 0 0 1\r\nx\r\n", "STORED") },
			session.OperationConsume: func(name string) (bool, error) { return ask("get "+name+"\r\n", "VALUE") },
		}
	},
}

// The same user with the same rules gets the same verdict at every door: that of the
// broker's one Authorize.
func TestVerdicts(t *testing.T) {
	s := secured(t, embed.Options{})
	names := []string{"orders", "orders.eu", "other"}
	admin, err := polylog.Connect(t.Context(), "polylog://"+s.Addr().String(), polylog.WithUser("admin", "admin's password"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	in, err := admin.Session(t.Context(), polylog.IndividualAcknowledge)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := admin.Admin().Create(t.Context(), polylog.DestinationSpec{Name: name, Kind: "queue", Settings: map[string]string{"max.deliveries": "0"}}); err != nil {
			t.Fatal(err)
		}
		for range 500 { // so that there is something to take
			if _, err := polylog.QueueOf[[]byte](in, name).Put(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	asked, refused := 0, 0
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(n int) int { return random.IntN(n) }
	open := map[string]map[session.Operation]func(string) (bool, error){}
	for _, user := range []string{"ann", "bob"} {
		for what, d := range doors {
			open[user+" "+what] = d(t, s, user)
		}
	}
	for round := range 12 {
		if _, err := s.Broker().DeleteACLs(t.Context(), destination.ACLFilter{}); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			rule := destination.ACL{
				Resource: destination.ResourceTopic, Name: []string{"orders", "orders.eu", "o", "*"}[pick(4)], Pattern: destination.PatternLiteral + destination.PatternType(pick(2)),
				Principal: []string{"User:ann", "User:bob", "User:*"}[pick(3)], Host: []string{"*", "127.0.0.1", "10.0.0.1"}[pick(3)],
				Operation: []destination.Access{destination.AccessAll, destination.AccessRead, destination.AccessWrite, destination.AccessDescribe, destination.AccessAlterConfigs}[pick(5)],
				Effect:    []destination.Effect{destination.EffectAllow, destination.EffectAllow, destination.EffectDeny}[pick(3)],
			}
			if rule.Name == "*" {
				rule.Pattern = destination.PatternLiteral
			}
			if err := s.Broker().CreateACLs(t.Context(), rule); err != nil {
				t.Fatal(err)
			}
		}
		for who, operations := range open {
			user, _, _ := strings.Cut(who, " ")
			for op, try := range operations {
				for _, name := range names {
					want := s.Broker().Authorize(destination.Principal{Name: user, Host: "127.0.0.1"}, op, name) == nil
					got, err := try(name)
					if err != nil || got != want {
						t.Fatalf("round %d: %s, %s %q: %t, %v, want %t\n%v", round, who, op, name, got, err, want, s.Broker().Authority().ACLs(destination.ACLFilter{}))
					}
					asked++
					if !want {
						refused++
					}
				}
			}
		}
	}
	t.Logf("%d verdicts, %d of them refusals", asked, refused)
}
