package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
)

// A resource takes part in units of work, each of which has an id.
type resource interface {
	prepare(ctx context.Context, id string) error
	commit(ctx context.Context, id string) error
	rollback(ctx context.Context, id string) error
	// prepared lists the units that are prepared.
	prepared(ctx context.Context) ([]string, error)
}

// coordinator ends units of work in two phases. Its log has the id of each unit
// that is to be committed, from before the first resource is told; a unit that is
// not there is rolled back (presumed abort).
type coordinator struct {
	log       *os.File
	decided   map[string]bool
	resources []resource
	reached   func(step string) // tells what has been done
}

func openCoordinator(path string, reached func(string), resources ...resource) (*coordinator, error) {
	log, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	c := &coordinator{log: log, decided: map[string]bool{}, resources: resources, reached: reached}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		c.decided[lines.Text()] = true // half a line is no id
	}
	return c, lines.Err()
}

// commit commits a unit in which all resources have done their work.
func (c *coordinator) commit(ctx context.Context, id string) error {
	for i, r := range c.resources {
		if err := r.prepare(ctx, id); err != nil {
			for _, r := range c.resources[:i] {
				_ = r.rollback(ctx, id) // or else recover does it
			}
			return fmt.Errorf("prepare: %w", err)
		}
		c.reached(prepareSteps[i])
	}
	if _, err := fmt.Fprintln(c.log, id); err != nil {
		return err
	}
	if err := c.log.Sync(); err != nil {
		return err
	}
	c.reached(decided)
	for i, r := range c.resources {
		if err := r.commit(ctx, id); err != nil {
			return fmt.Errorf("commit: %w", err) // recover does it later
		}
		c.reached(commitSteps[i])
	}
	return nil
}

// recover ends what an earlier life of this coordinator has left.
func (c *coordinator) recover(ctx context.Context) error {
	for _, r := range c.resources {
		ids, err := r.prepared(ctx)
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		for _, id := range ids {
			end := r.rollback
			if c.decided[id] {
				end = r.commit
			}
			if err := end(ctx, id); err != nil {
				return fmt.Errorf("recover %s: %w", id, err)
			}
		}
	}
	return nil
}
