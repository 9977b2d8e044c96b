package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polylog-mq/polylog/broker/group"
)

// handler serves one request.
type handler struct {
	min, max int16
	// serve answers by way of the reply, which is nil if nothing is answered.
	serve func(*connection, kmsg.Request, *reply)
	// copies is set if nothing of the request's bytes is kept once serve returns.
	copies bool
}

// answering makes a handler of a function that returns the response.
func answering[Q kmsg.Request, R kmsg.Response](from, to int16, f func(*connection, context.Context, Q) R) handler {
	return handler{min: from, max: to, serve: func(c *connection, r kmsg.Request, a *reply) {
		a.done(f(c, c.ctx, r.(Q)))
	}}
}

// grouped makes a handler of one of the group coordinator's methods.
func grouped[Q kmsg.Request, R kmsg.Response](from, to int16, f func(*group.Coordinator, context.Context, group.Client, Q) R) handler {
	return answering(from, to, func(c *connection, ctx context.Context, r Q) R {
		return f(c.server.broker.Groups(), ctx, c.client(), r)
	})
}

// joining makes a handler of a method that waits for other members.
func joining[Q kmsg.Request, R kmsg.Response](from, to int16, f func(*group.Coordinator, context.Context, group.Client, Q) R) handler {
	return answering(from, to, func(c *connection, _ context.Context, r Q) (response R) {
		c.whileConnected(func(ctx context.Context) { response = f(c.server.broker.Groups(), ctx, c.client(), r) })
		return response
	})
}

const apiVersionsKey = int16(kmsg.ApiVersions)

// handlers is what is served: ApiVersions says so, and a golden test pins it.
var handlers map[int16]handler

func init() { // not in the declaration, because ApiVersions looks at it
	handlers = map[int16]handler{
		int16(kmsg.Produce):              {min: 0, max: 13, serve: produce, copies: true},
		int16(kmsg.Fetch):                {min: 4, max: 17, serve: fetch, copies: true},
		int16(kmsg.ListOffsets):          answering(1, 11, (*connection).listOffsets),
		int16(kmsg.Metadata):             answering(0, 13, (*connection).metadata),
		int16(kmsg.OffsetForLeaderEpoch): answering(2, 4, (*connection).offsetForLeaderEpoch),
		int16(kmsg.FindCoordinator):      answering(0, 6, (*connection).findCoordinator),
		int16(kmsg.SASLHandshake):        answering(0, 1, (*connection).saslHandshake),
		int16(kmsg.SASLAuthenticate):     answering(0, 2, (*connection).saslAuthenticate),
		apiVersionsKey:                   answering(0, 5, (*connection).apiVersions),
		int16(kmsg.DescribeCluster):      answering(0, 2, (*connection).describeCluster),
	}
	register(groupHandlers, adminHandlers, txnHandlers, shareHandlers)
}

func register(tables ...map[int16]handler) {
	for _, t := range tables {
		for key, h := range t {
			handlers[key] = h
		}
	}
}

// advertised is the table as ApiVersions says it, by key.
func advertised() []kmsg.ApiVersionsResponseApiKey {
	list := make([]kmsg.ApiVersionsResponseApiKey, 0, len(handlers))
	for key, h := range handlers {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, h.min, h.max
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey) - int(b.ApiKey) })
	return list
}
