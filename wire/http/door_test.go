package http_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/goleak"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/selector"
	"github.com/polylog-mq/polylog/queue"
	"github.com/polylog-mq/polylog/wire"
	"github.com/polylog-mq/polylog/wire/http"
	"github.com/polylog-mq/polylog/wire/stomp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(text string) (queue.Selector, error) {
	s, err := selector.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", destination.ErrBadSelector, err)
	}
	return s, nil
}

// door is a broker that is reached by HTTP alone. What it answers is held against
// openapi.yaml.
type door struct {
	t         testing.TB
	broker    *broker.Broker
	listener  *wire.Listener
	client    *nethttp.Client
	described routers.Router
}

func open(t testing.TB, o http.Options) *door {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Logger: silent, CompileSelector: compile})
	if err != nil {
		t.Fatal(err)
	}
	o.Logger, o.CompileSelector = silent, compile
	o.STOMP = stomp.New(b, stomp.Options{Logger: silent, CompileSelector: compile}).Serve
	l, err := wire.Listen(wire.Config{}, wire.NewGuard(wire.Limits{}), http.New(b, o), silent)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	description, err := openapi3.NewLoader().LoadFromData(text)
	if err == nil {
		err = description.Validate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(description)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, broker: b, listener: l, described: router}
	transport := &nethttp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := wire.Pipe()
		l.ServeConn(far)
		return near, nil
	}}
	d.client = &nethttp.Client{Transport: transport, Timeout: 20 * time.Second}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		l.Drain(ctx)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// answer is what was answered.
type answer struct {
	*nethttp.Response
	body []byte
}

func (d *door) do(method, path, body string, headers ...string) answer {
	d.t.Helper()
	r, err := nethttp.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	response, err := d.client.Do(r)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	d.validate(r, response, got)
	return answer{response, got}
}

// validate holds an answer against the description.
func (d *door) validate(r *nethttp.Request, response *nethttp.Response, body []byte) {
	d.t.Helper()
	route, parameters, err := d.described.FindRoute(r)
	if err != nil {
		if response.StatusCode != nethttp.StatusNotFound && response.StatusCode != nethttp.StatusMethodNotAllowed {
			d.t.Errorf("%s %s is answered %d, and not described: %v", r.Method, r.URL.Path, response.StatusCode, err)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route}
	err = openapi3filter.ValidateResponse(d.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		d.t.Errorf("%s %s: %d %q is not as openapi.yaml says: %v", r.Method, r.URL.Path, response.StatusCode, body, err)
	}
}

// is expects a status and, unless v is nil, reads what was answered into it.
func (a answer) is(t testing.TB, status int, v any) {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%d %s, want %d", a.StatusCode, a.body, status)
	}
	if v != nil {
		if err := json.Unmarshal(a.body, v); err != nil {
			t.Fatalf("%q: %v", a.body, err)
		}
	}
}

type message struct {
	Receipt, ID, Kind, Text, State string
	Body                           []byte
	Priority                       int
	CorrelationID                  string `json:"correlation_id"`
	Type                           string
	ReplyTo                        string `json:"reply_to"`
	Group                          string
	DeliveryCount                  int `json:"delivery_count"`
	Expires                        *time.Time
	Properties                     map[string]any
}

func (d *door) take(name, query string) []message {
	d.t.Helper()
	a := d.do("POST", "/v1/queues/"+url.PathEscape(name)+"/take?"+query, "")
	if a.StatusCode == nethttp.StatusNoContent {
		return nil
	}
	var list []message
	a.is(d.t, nethttp.StatusOK, &list)
	return list
}

func TestPutAndTake(t *testing.T) {
	d := open(t, http.Options{})
	var sent struct {
		ID     string
		Offset int64
	}
	d.do(
		"POST", "/v1/queues/orders%2Feu/messages", `{"n":1}`, "Content-Type", "application/json", "Polylog-Priority", "7", "Polylog-Correlation-Id", "c",
		"Polylog-Type", "t", "Polylog-Reply-To", "topic://answers", "Polylog-Group", "g", "Polylog-Expires-In", "1h", "Polylog-Properties", `{"colour":"red","n":5,"f":1.5,"b":true}`,
	).is(t, nethttp.StatusCreated, &sent)
	if sent.ID == "" {
		t.Error("no id")
	}
	d.do("POST", "/v1/queues/orders%2Feu/messages", "\x00\xff").is(t, nethttp.StatusCreated, nil)
	got := d.take("orders/eu", "count=5&lease=1m")
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	m := got[0]
	if m.Kind != "text" || m.Text != `{"n":1}` || m.Priority != 7 || m.CorrelationID != "c" || m.Type != "t" || m.ReplyTo != "topic://answers" || m.Group != "g" ||
		m.DeliveryCount != 1 || m.ID != sent.ID || m.Expires == nil || m.Properties["colour"] != "red" || m.Properties["n"] != 5.0 || m.Properties["b"] != true {
		t.Errorf("%+v", m)
	}
	if got[1].Kind != "bytes" || string(got[1].Body) != "\x00\xff" {
		t.Errorf("%+v", got[1])
	}
	if got := d.take("orders/eu", ""); got != nil {
		t.Errorf("taken twice: %+v", got)
	}
	for _, m := range got {
		d.do("POST", "/v1/receipts/"+m.Receipt+"/accept", "").is(t, nethttp.StatusNoContent, nil)
		d.do("POST", "/v1/receipts/"+m.Receipt+"/accept", "").is(t, nethttp.StatusNotFound, nil)
	}
	if got := d.take("orders/eu", ""); got != nil {
		t.Errorf("accepted, and again: %+v", got)
	}
}

func (d *door) put(queue string, bodies ...string) {
	d.t.Helper()
	for _, body := range bodies {
		d.do("POST", "/v1/queues/"+queue+"/messages", body, "Content-Type", "text/plain").is(d.t, nethttp.StatusCreated, nil)
	}
}

func TestOutcomes(t *testing.T) {
	d := open(t, http.Options{})
	d.put("q", "x")
	m := d.take("q", "")[0]
	d.do("POST", "/v1/receipts/"+m.Receipt+"/release?delay=0", "").is(t, nethttp.StatusNoContent, nil)
	m = d.take("q", "timeout=5s")[0]
	if m.DeliveryCount != 2 {
		t.Errorf("%+v", m)
	}
	d.do("POST", "/v1/receipts/"+m.Receipt+"/reject?reason=no+good", "").is(t, nethttp.StatusNoContent, nil)
	m = d.take("DLQ.q", "timeout=5s&ack=auto")[0]
	if m.Text != "x" || !strings.Contains(fmt.Sprint(m.Properties), "no good") {
		t.Errorf("%+v", m)
	}
	if got := d.take("DLQ.q", ""); got != nil {
		t.Errorf("%+v", got)
	}
	d.do("POST", "/v1/receipts/"+m.Receipt+"x/accept", "").is(t, nethttp.StatusNotFound, nil)
	d.put("q", "y")
	d.do("POST", "/v1/receipts/"+d.take("q", "")[0].Receipt+"/forget", "").is(t, nethttp.StatusNotFound, nil)
}

// What nobody settles within the lease comes again.
func TestLease(t *testing.T) {
	d := open(t, http.Options{})
	d.put("q", "x")
	first := d.take("q", "lease=0.2")[0]
	again := d.take("q", "timeout=10s")[0]
	if again.Text != "x" || again.DeliveryCount != 2 {
		t.Errorf("%+v", again)
	}
	d.do("POST", "/v1/receipts/"+first.Receipt+"/accept", "").is(t, nethttp.StatusNotFound, nil)
	d.do("POST", "/v1/receipts/"+again.Receipt+"/accept", "").is(t, nethttp.StatusNoContent, nil)
}

func TestLongPoll(t *testing.T) {
	d := open(t, http.Options{})
	got := make(chan []message, 1)
	go func() { got <- d.take("q", "timeout=20s&ack=auto") }()
	d.put("q", "x")
	if m := <-got; len(m) != 1 || m[0].Text != "x" {
		t.Errorf("%+v", m)
	}
	// Who goes away gets nothing, and what would have come stays.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, _ := nethttp.NewRequestWithContext(ctx, "POST", "http://localhost/v1/queues/q/take?timeout=60s", nil)
	if _, err := d.client.Do(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	d.put("q", "y")
	if m := d.take("q", "timeout=5s"); len(m) != 1 || m[0].Text != "y" || m[0].DeliveryCount != 1 {
		t.Errorf("%+v", m)
	}
}

func TestBrowseAndDescribe(t *testing.T) {
	d := open(t, http.Options{})
	d.put("q", "a", "b", "c")
	d.take("q", "")
	var list []message
	d.do("GET", "/v1/queues/q/messages?limit=2", "").is(t, nethttp.StatusOK, &list)
	if len(list) != 2 || list[0].State != "acquired" || list[1].Text != "b" || list[1].State != "available" {
		t.Errorf("%+v", list)
	}
	var all []struct{ Name, Kind string }
	d.do("GET", "/v1/destinations?prefix=q", "").is(t, nethttp.StatusOK, &all)
	if len(all) != 1 || all[0].Name != "q" || all[0].Kind != "queue" {
		t.Errorf("%+v", all)
	}
	var one struct{ Waiting, Acquired int }
	d.do("GET", "/v1/destinations/q", "").is(t, nethttp.StatusOK, &one)
	if one.Waiting != 2 || one.Acquired != 1 {
		t.Errorf("%+v", one)
	}
}

func TestRefusals(t *testing.T) {
	d := open(t, http.Options{MaxBody: 1000})
	if _, err := d.broker.CreateDestination(t.Context(), "full", destination.KindQueue, map[string]string{"max.length": "1", "overflow": "fail"}); err != nil {
		t.Fatal(err)
	}
	d.put("full", "x")
	if _, err := d.broker.CreateDestination(t.Context(), "news", destination.KindTopic, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
	}{
		{"POST", "/v1/queues/q/messages", strings.Repeat("x", 1001), nil, 413},
		{"POST", "/v1/queues/q/messages", "x", []string{"Polylog-Priority", "10"}, 400},
		{"POST", "/v1/queues/q/messages", "x", []string{"Polylog-Delay", "-1"}, 400},
		{"POST", "/v1/queues/q/messages", "x", []string{"Polylog-Delay", "soon"}, 400},
		{"POST", "/v1/queues/q/messages", "x", []string{"Polylog-Properties", `{"a":[1]}`}, 400},
		{"POST", "/v1/queues/q/messages", "x", []string{"Polylog-Properties", `{`}, 400},
		{"POST", "/v1/queues/news/messages", "x", nil, 409},
		{"POST", "/v1/queues/__delivery_state/messages", "x", nil, 403},
		{"POST", "/v1/queues/full/messages", "x", nil, 429},
		{"POST", "/v1/queues/q/take?count=0", "", nil, 400},
		{"POST", "/v1/queues/q/take?timeout=1h", "", nil, 400},
		{"POST", "/v1/queues/q/take?ack=maybe", "", nil, 400},
		{"POST", "/v1/queues/q/take?selector=%3D", "", nil, 422},
		{"GET", "/v1/destinations/none", "", nil, 404},
		{"GET", "/v1/topics/news/events?subscription=s", "", nil, 400},
		{"POST", "/v1/receipts/x/accept", "", nil, 404},
		{"GET", "/nothing", "", nil, 404},
		{"DELETE", "/v1/queues/q/messages", "", nil, 405},
		{"POST", "/v1/queues/q/messages", "x", []string{"Origin", "http://evil.example"}, 403},
		{"POST", "/v1/queues/q/messages", "x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/v1/queues/q/messages", "x", []string{"Host", "evil.example"}, 403},
		{"POST", "/v1/queues/q/messages", "x", []string{"Origin", "http://localhost"}, 201},
	} {
		if a := d.do(c.method, c.path, c.body, c.headers...); a.StatusCode != c.status {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.path, c.headers, a.StatusCode, a.body, c.status)
		}
	}
}

// stream reads the data of events.
func (d *door) stream(ctx context.Context, path string) (next func() message) {
	d.t.Helper()
	r, _ := nethttp.NewRequestWithContext(ctx, "GET", "http://localhost"+path, nil)
	response, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		d.t.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	lines := bufio.NewScanner(response.Body)
	d.t.Cleanup(func() { response.Body.Close() })
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), ":") { // it is open
		d.t.Fatalf("%q", lines.Text())
	}
	return func() message {
		d.t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var m message
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					d.t.Fatal(err)
				}
				return m
			}
		}
		d.t.Fatalf("the stream ended: %v", lines.Err())
		return message{}
	}
}

func TestEvents(t *testing.T) {
	d := open(t, http.Options{})
	publish := func(body string) {
		d.do("POST", "/v1/topics/news/messages", body, "Content-Type", "text/plain").is(t, nethttp.StatusCreated, nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	all := d.stream(ctx, "/v1/topics/news/events")
	durable := d.stream(ctx, "/v1/topics/news/events?subscription=s&client-id=me")
	publish("a")
	if m := all(); m.Text != "a" {
		t.Errorf("%+v", m)
	}
	if m := durable(); m.Text != "a" {
		t.Errorf("%+v", m)
	}
	// The client id is in use as long as the stream is.
	d.do("GET", "/v1/topics/news/events?subscription=s&client-id=me", "").is(t, nethttp.StatusConflict, nil)
	cancel()
	publish("b")
	for until := time.Now().Add(10 * time.Second); ; {
		r, _ := nethttp.NewRequest("GET", "http://localhost/v1/topics/news/events?subscription=s&client-id=me", nil)
		response, err := d.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == 200 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the subscription is still in use")
		}
	}
}

func TestAuthentication(t *testing.T) {
	asked := 0
	d := open(t, http.Options{Authenticate: func(user, password string) (string, error) {
		asked++
		if user != "ann" || password != "secret" {
			return "", errors.New("no")
		}
		return user, nil
	}})
	a := d.do("GET", "/v1/destinations", "")
	if a.is(t, 401, nil); !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Error("nobody says how")
	}
	for range 3 {
		d.do("GET", "/v1/destinations", "", "Authorization", "Basic YW5uOnNlY3JldA==", "Host", "any.example").is(t, 200, nil)
	}
	if asked != 1 {
		t.Errorf("asked %d times on one connection", asked)
	}
	d.do("GET", "/v1/destinations", "", "Authorization", "Basic YW5uOm5v").is(t, 401, nil)
	d.do("GET", "/v1/destinations", "").is(t, 401, nil)
	d.do("GET", "/livez", "").is(t, 200, nil)
}

func TestOperators(t *testing.T) {
	notReady := errors.New("not yet")
	d := open(t, http.Options{Version: "1.2.3", Ready: func() error { return notReady }, Connections: func() map[string]int { return map[string]int{"http": 1} }})
	d.do("GET", "/livez", "").is(t, 200, nil)
	d.do("GET", "/readyz", "").is(t, 503, nil)
	notReady = nil
	d.do("GET", "/readyz", "").is(t, 200, nil)
	d.put("q", "x")
	d.take("q", "ack=auto")
	a := d.do("GET", "/metrics", "")
	a.is(t, 200, nil)
	for _, line := range []string{
		`polylog_build_info{version="1.2.3"} 1`, `polylog_connections{protocol="http"} 1`, `polylog_queue_messages{destination="q",state="waiting"} 0`,
		`polylog_queue_acknowledged_total{destination="q"} 1`, "polylog_destinations 1",
	} {
		if !strings.Contains(string(a.body), line) {
			t.Errorf("no %s in\n%s", line, a.body)
		}
	}
	d.do("GET", "/openapi.yaml", "").is(t, 200, nil)
}

// STOMP over a WebSocket, as browsers speak it.
func TestSocket(t *testing.T) {
	d := open(t, http.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://localhost/ws", &websocket.DialOptions{HTTPClient: d.client, Subprotocols: []string{"v12.stomp"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "v12.stomp" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	conn := websocket.NetConn(ctx, c, websocket.MessageText)
	defer conn.Close()
	in := bufio.NewReader(conn)
	say := func(text, first string) {
		t.Helper()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		for line := ""; line != first; {
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
	}
	say("CONNECT\naccept-version:1.2\nhost:localhost\n\n\x00", "CONNECTED\n")
	say("SEND\ndestination:/queue/q\nreceipt:1\n\nover the web\x00", "RECEIPT\n")
	say("DISCONNECT\nreceipt:2\n\n\x00", "RECEIPT\n")
	if m := d.take("q", "timeout=5s&ack=auto"); len(m) != 1 || m[0].Text != "over the web" {
		t.Errorf("%+v", m)
	}
	if _, _, err := websocket.Dial(ctx, "ws://localhost/ws", &websocket.DialOptions{HTTPClient: d.client, HTTPHeader: nethttp.Header{"Origin": {"http://evil.example"}}}); err == nil {
		t.Error("a page of another origin is let in")
	}
}

// Who waits is answered when the broker drains, and nothing is lost.
func TestDrain(t *testing.T) {
	d := open(t, http.Options{})
	d.put("held", "x")
	d.take("held", "lease=1h")
	waiting := make(chan int, 1)
	go func() { waiting <- d.do("POST", "/v1/queues/q/take?timeout=60s", "").StatusCode }()
	for until := time.Now().Add(10 * time.Second); ; {
		info, err := d.broker.DescribeDestination(t.Context(), "q")
		if err == nil && info.Queue != nil && info.Queue.Consumers == 1 || time.Now().After(until) {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	d.listener.Drain(ctx)
	if got := <-waiting; got != nethttp.StatusNoContent || ctx.Err() != nil {
		t.Errorf("%d, %v", got, ctx.Err())
	}
	info, err := d.broker.DescribeDestination(t.Context(), "held")
	if err != nil || info.Queue.Waiting != 1 || info.Queue.Acquired != 0 {
		t.Errorf("%+v, %v", info.Queue, err)
	}
}
