package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A state is how far a run has come, as its directory's file state.json tells.
type state struct {
	Command  string        `json:"command"`
	Broker   string        `json:"broker"`
	Sessions int           `json:"sessions"` // times that it was started, this one included
	Elapsed  time.Duration `json:"elapsed_ns"`
	Kills    int           `json:"kills"`
	Earlier  *faults       `json:"earlier,omitempty"` // what earlier sessions found

	Storms []*storm `json:"storms,omitempty"` // of rebalance: those that are done

	path string
}

// openState reads the state of a run, or begins one.
func openState(o *options, command string) (*state, error) {
	s := &state{Command: command, Broker: o.broker, path: filepath.Join(o.dir, "state.json")}
	text, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
	}
	if s.Command != command || s.Broker != o.broker {
		return nil, fmt.Errorf("%s holds a run of %s with %s", o.dir, s.Command, s.Broker)
	}
	s.Sessions++
	return s, s.save()
}

// save replaces the file, so that there is a whole one at any time.
func (s *state) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// A journal is the file of the ends of transactions, one a line, so that a later
// session of the run knows them: transaction, count, outcome. A transaction that is
// not in it is in doubt.
type journal struct{ file *os.File }

func openJournal(path string, each func(id transactionID, count int, o outcome)) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	var whole int64
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF { // what is left is of a write that was interrupted
			break
		}
		if err != nil {
			return nil, err
		}
		whole += int64(len(line))
		words := strings.Fields(line)
		if len(words) != 3 {
			return nil, fmt.Errorf("%s: %q", path, line)
		}
		id, err := parseTransactionID(words[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var count int
		if _, err := fmt.Sscan(words[1], &count); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		o, ok := parseOutcome(words[2])
		if !ok {
			return nil, fmt.Errorf("%s: %q", path, line)
		}
		each(id, count, o)
	}
	if err := file.Truncate(whole); err != nil {
		return nil, err
	}
	_, err = file.Seek(whole, io.SeekStart)
	return &journal{file}, err
}

func (j *journal) ended(id transactionID, count int, o outcome) error {
	_, err := fmt.Fprintf(j.file, "%s %d %s\n", id, count, o)
	return err
}

func (j *journal) close() error { return j.file.Close() }
