package main

import (
	"context"

	"github.com/polylog-mq/polylog"
)

// format tells our XIDs from those of others.
const format = 0x7861

// polylogResource is a session in distributed transactions.
type polylogResource struct {
	session *polylog.Session
	xa      polylog.XAResource
}

func openPolylog(ctx context.Context, url string) (*polylogResource, error) {
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	s, err := c.Session(ctx, polylog.Transacted)
	if err != nil {
		return nil, err
	}
	return &polylogResource{s, s.XA()}, nil
}

func xid(id string) polylog.XID { return polylog.XID{Format: format, Global: id, Branch: "polylog"} }

func (r *polylogResource) begin(ctx context.Context, id string) error {
	return r.xa.Start(ctx, xid(id), polylog.XANew, 0)
}

func (r *polylogResource) prepare(ctx context.Context, id string) error {
	if err := r.xa.End(ctx, xid(id), polylog.XASuccess); err != nil {
		return err
	}
	_, err := r.xa.Prepare(ctx, xid(id))
	return err
}

func (r *polylogResource) commit(ctx context.Context, id string) error {
	return r.xa.Commit(ctx, xid(id), false)
}

func (r *polylogResource) rollback(ctx context.Context, id string) error {
	return r.xa.Rollback(ctx, xid(id))
}

func (r *polylogResource) prepared(ctx context.Context) (ids []string, err error) {
	all, err := r.xa.Recover(ctx)
	for _, x := range all {
		if x.Format == format {
			ids = append(ids, x.Global)
		}
	}
	return ids, err
}
