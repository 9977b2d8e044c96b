package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/polylog-mq/polylog/broker"
	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// maxFindings bounds what check lists; it counts on.
const maxFindings = 1000

// finding is one thing that is wrong, and where.
type finding struct {
	File     string `json:"file"`
	Position int64  `json:"position"`
	Problem  string `json:"problem"`
}

// checkReport is what check found.
type checkReport struct {
	Directory     string    `json:"directory"`
	OK            bool      `json:"ok"`
	CleanShutdown bool      `json:"clean_shutdown"`
	Destinations  int       `json:"destinations"`
	Subscriptions int       `json:"subscriptions"`
	Logs          int       `json:"logs"`
	Segments      int       `json:"segments"`
	Batches       int64     `json:"batches"`
	Records       int64     `json:"records"`
	Bytes         int64     `json:"bytes"`
	Entries       int64     `json:"journal_entries"`
	TornBytes     int64     `json:"journal_torn_bytes"`
	Findings      []finding `json:"findings"`
	More          int       `json:"more_findings,omitempty"`
}

func (c *checkReport) find(file string, position int64, format string, args ...any) {
	if len(c.Findings) == maxFindings {
		c.More++
		return
	}
	c.Findings = append(c.Findings, finding{file, position, fmt.Sprintf(format, args...)})
}

// checkCommand is `polylog check`.
func (r *run) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Category: categoryBroker,
		Usage: "verify a data directory while no broker runs on it", ArgsUsage: "DIR",
		Description: "Reads everything and writes nothing: the metadata, the journal by a trial of the\n" +
			"recovery that the next start will run, and then the checksum and place of every\n" +
			"batch and every index entry. Exit code 1 if something is wrong. A torn end of the\n" +
			"journal after a crash is not: nothing in it was confirmed.",
		Action: r.configured(r.check),
	}
}

func (r *run) check(c *cli.Context) error {
	if err := operands(c, 1, 1); err != nil {
		return err
	}
	directory := c.Args().First()
	logs := filepath.Join(directory, "log")
	if _, err := os.Stat(logs); err != nil {
		return &exitError{exitNotFound, fmt.Errorf("%s is no data directory: %w", directory, err)}
	}
	release, err := holdLock(filepath.Join(logs, "lock"))
	if err != nil {
		if errors.Is(err, errDirectoryInUse) {
			err = fmt.Errorf("%w (%s has it)", err, holderOf(filepath.Join(logs, "lock")))
		}
		return fmt.Errorf("%s: %w", directory, err)
	}
	defer release()
	report := &checkReport{Directory: directory, Findings: []finding{}}
	if err := report.checkLogs(c.Context, logs); err != nil {
		return err
	}
	if err := report.checkStart(filepath.Join(directory, "metadata.db"), logs); err != nil {
		return err
	}
	report.OK = len(report.Findings) == 0
	return r.printCheck(report)
}

// checkStart starts a broker on a copy of the metadata and an overlay of the
// logs, which reads all delivery states, and stops it.
func (c *checkReport) checkStart(file, logs string) error {
	copied, err := copyToTemporary(file)
	if errors.Is(err, fs.ErrNotExist) {
		c.find("metadata.db", 0, "is missing: nobody knows the destinations")
		return nil
	}
	if err != nil {
		return err
	}
	defer os.Remove(copied)
	store, err := metadata.OpenBolt(copied, metadata.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.find("metadata.db", 0, "%s", strings.ReplaceAll(err.Error(), copied, "metadata.db"))
		return nil
	}
	contents, err := store.Load()
	if err != nil {
		c.find("metadata.db", 0, "%v", err)
		return store.Close()
	}
	c.Destinations, c.Subscriptions = len(contents.Destinations), len(contents.Subscriptions)
	over, err := openOverlay(logs)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	b, err := broker.Open(broker.Options{FS: over, Metadata: store, Log: trialOptions(), KeepInterval: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil { // which has closed both
		c.find("log", 0, "a start would be refused: %v", err)
		return nil
	}
	return b.Close()
}

// trialOptions keep a store from doing more than it must.
func trialOptions() commitlog.Options {
	return commitlog.Options{Logger: slog.New(slog.DiscardHandler), CheckpointInterval: time.Hour, ReservedBytes: -1}
}

// copyToTemporary copies a file, because opening a database writes to it.
func copyToTemporary(file string) (string, error) {
	source, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer source.Close()
	copied, err := os.CreateTemp("", "polylog-check-*.db")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(copied, source)
	if err = errors.Join(err, copied.Close()); err != nil {
		return "", errors.Join(err, os.Remove(copied.Name()))
	}
	return copied.Name(), nil
}

// checkLogs tries the recovery in memory and reads what would then be there.
func (c *checkReport) checkLogs(ctx context.Context, directory string) error {
	over, err := openOverlay(directory)
	if err != nil {
		return err
	}
	store, err := commitlog.Open(over, trialOptions())
	if err != nil {
		c.find("log", 0, "a start would be refused: %v", err)
		return over.Close()
	}
	recovery := store.Recovery()
	c.CleanShutdown, c.Entries, c.TornBytes = recovery.Clean, recovery.Entries, recovery.TornBytes
	for _, d := range recovery.Damaged {
		c.find(path.Join(d.Dir, d.Segment), d.Position, "%d bytes damaged, offsets %d to %d lost: %s", d.Length, d.Offset, d.Next, d.Reason)
	}
	err = c.checkPartitions(ctx, over)
	return errors.Join(err, store.Close())
}

// checkPartitions checks every directory that a partition may have: its name
// ends with the partition's number.
func (c *checkReport) checkPartitions(ctx context.Context, store commitlog.FS) error {
	entries, err := store.ReadDir(".")
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	for _, e := range entries {
		i := strings.LastIndexByte(e.Name, '-')
		if _, err := strconv.ParseUint(e.Name[i+1:], 10, 31); !e.Dir || i < 1 || err != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errInterrupted
		}
		if err := c.checkLog(store, e.Name); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) printCheck(c *checkReport) error {
	if r.output != formatTable {
		if err := printOne(r, c); err != nil {
			return err
		}
	} else if err := r.printCheckTable(c); err != nil {
		return err
	}
	if !c.OK {
		return &exitError{exitFailure, fmt.Errorf("%d problems in %s", len(c.Findings)+c.More, c.Directory)}
	}
	return nil
}

func (r *run) printCheckTable(c *checkReport) error {
	ended := "in order"
	if !c.CleanShutdown {
		ended = fmt.Sprintf("without notice; the next start recovers %s journal entries", humanCount(c.Entries))
	}
	if c.TornBytes > 0 {
		ended += fmt.Sprintf(" and cuts %s that were never confirmed", humanBytes(c.TornBytes))
	}
	verdict := "nothing is wrong"
	if !c.OK {
		verdict = humanCount(int64(len(c.Findings)+c.More)) + " problems"
	}
	err := printOne(r, c,
		pair{"directory", c.Directory},
		pair{"last run ended", ended},
		pair{"metadata", fmt.Sprintf("%s destinations, %s subscriptions", humanCount(int64(c.Destinations)), humanCount(int64(c.Subscriptions)))},
		pair{"logs", fmt.Sprintf("%s, with %s segments of %s", humanCount(int64(c.Logs)), humanCount(int64(c.Segments)), humanBytes(c.Bytes))},
		pair{"batches", fmt.Sprintf("%s, with %s records", humanCount(c.Batches), humanCount(c.Records))},
		pair{"result", verdict})
	if err != nil || c.OK {
		return err
	}
	fmt.Fprintln(r.stdout)
	return printList(r, c.Findings,
		column("FILE", func(f finding) string { return f.File }),
		figures("BYTE", func(f finding) string { return humanCount(f.Position) }),
		column("PROBLEM", func(f finding) string { return f.Problem }))
}
