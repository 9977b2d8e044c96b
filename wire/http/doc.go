// Package http is the door for everybody who has HTTP and nothing else: messages are put,
// taken, browsed and published with a request each, subscriptions are streams of
// server-sent events, and STOMP goes over a WebSocket. It also has what operators' tools
// ask for: whether the broker lives and is ready, and its metrics.
//
// openapi.yaml says what there is; a test holds every answer of this package's tests
// against it. docs/http.md tells it to people.
package http
