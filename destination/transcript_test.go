package destination

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata")

// TestTranscripts runs testdata/*.txt: lines that begin with "> " are commands
// to a cursor, the lines after each are what it answers. With -rewrite the
// answers are written anew.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runTranscript(string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("-- got\n%s\n-- want\n%s", got, want)
			}
		})
	}
}

func runTranscript(text string) string {
	var out strings.Builder
	p := player{c: NewCursor(0)}
	p.journal = [][]byte{p.c.AppendSnapshot(nil)}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch command, ok := strings.CutPrefix(line, "> "); {
		case ok:
			fmt.Fprintf(&out, "%s\n%s", line, p.run(strings.Fields(command)))
		case line == "" || strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// player is a cursor that is told what to do in words.
type player struct {
	c       *Cursor
	journal [][]byte
}

func (p *player) run(words []string) string {
	n := func(i int) int64 {
		if i >= len(words) {
			return 0
		}
		v, _ := strconv.ParseInt(words[i], 10, 64)
		return v
	}
	result := func(err error) string {
		if err != nil {
			return err.Error() + "\n"
		}
		return ""
	}
	back := words[len(words)-1] == "countback"
	commit := words[len(words)-1] == "commit"
	switch c := p.c; words[0] {
	case "acquire": // from to holder lock
		if first, ok := c.AcquireRange(n(1), n(2), Holder(n(3)), n(4)); ok {
			return fmt.Sprintf("%d.. first time\n", first)
		}
		var b strings.Builder
		for o := n(1); o < n(2); o++ {
			if number, count, ok := c.Acquire(o, Holder(n(3)), n(4)); ok {
				fmt.Fprintf(&b, "offset %d: acquisition %d, delivery %d\n", o, number, count)
			} else {
				fmt.Fprintf(&b, "offset %d: not available\n", o)
			}
		}
		return b.String()
	case "acknowledge": // from to first holder
		return result(c.AcknowledgeRange(n(1), n(2), uint64(n(3)), Holder(n(4))))
	case "release": // from to first holder due
		return result(c.ReleaseRange(n(1), n(2), uint64(n(3)), Holder(n(4)), n(5), back))
	case "hold": // from to first holder txn
		return result(c.HoldRange(n(1), n(2), uint64(n(3)), Holder(n(4)), uint64(n(5))))
	case "endhold":
		return fmt.Sprintln(c.EndHold(uint64(n(1)), commit))
	case "holdsend": // from to producer
		c.HoldSend(n(1), n(2), uint64(n(3)))
	case "endsend":
		return fmt.Sprintln(c.EndSend(uint64(n(1)), commit))
	case "gone":
		return fmt.Sprintln(c.ReleaseHolder(Holder(n(1)), back))
	case "archive":
		return fmt.Sprintln(c.ArchiveRange(n(1), n(2)))
	case "pass":
		c.Pass(n(1), n(2))
	case "schedule":
		return fmt.Sprintln(c.Schedule(n(1), n(2)))
	case "time":
		return fmt.Sprintf("expired %v, due %v\n", c.ExpireLocks(n(1)), c.DueScheduled(n(1), 100))
	case "delta":
		d := c.TakeDelta(nil)
		p.journal = append(p.journal, d)
		return fmt.Sprintf("% x\n", d)
	case "snapshot":
		return fmt.Sprintf("% x\n", c.AppendSnapshot(nil))
	case "crash": // everything since the last delta is lost
		return result(p.crash())
	case "state":
		return p.state()
	default:
		return "unknown command\n"
	}
	return ""
}

func (p *player) crash() (err error) {
	if p.c, err = RestoreCursor(p.journal[0]); err != nil {
		return err
	}
	for _, d := range p.journal[1:] {
		if err := p.c.Apply(d); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) state() string {
	var b strings.Builder
	c := p.c
	fmt.Fprintf(&b, "floor %d, next %d", c.floor, c.next)
	if ms, ok := c.NextWake(); ok {
		fmt.Fprintf(&b, ", wake %d", ms)
	}
	b.WriteByte('\n')
	for o := c.floor; o < c.next; o++ {
		switch at, found := c.runs.find(o); {
		case c.done.contains(o):
			fmt.Fprintf(&b, "%d done\n", o)
		case !found:
			fmt.Fprintf(&b, "%d available, delivered %d\n", o, c.Count(o))
		default:
			r := c.runs.at(at)
			name := [...]string{acquired: "acquired", scheduled: "scheduled", held: "held", heldSend: "held send"}[r.state]
			fmt.Fprintf(&b, "%d %s, delivered %d, owner %d, until %d\n", o, name, r.count, r.owner, r.until)
		}
	}
	return b.String()
}
