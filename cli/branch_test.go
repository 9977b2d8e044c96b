package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog"
	"github.com/polylog-mq/polylog/embed"
	"github.com/polylog-mq/polylog/wire"
)

// TestBranch ends branches in place of their manager.
func TestBranch(t *testing.T) {
	server, err := embed.Start(embed.Options{Dir: t.TempDir(), Listen: wire.Config{Address: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, url := t.Context(), "polylog://"+server.Addr().String()
	c, err := polylog.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Session(ctx, polylog.Transacted)
	if err != nil {
		t.Fatal(err)
	}
	a, b := polylog.XID{Format: 1, Global: "order", Branch: "a"}, polylog.XID{Format: 1, Global: "order", Branch: "b"}
	for _, x := range []polylog.XID{a, b} {
		if err := s.XA().Start(ctx, x, polylog.XANew, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := polylog.QueueOf[string](s, "orders").Put(ctx, x.Branch); err != nil {
			t.Fatal(err)
		}
		if err := s.XA().End(ctx, x, polylog.XASuccess); err != nil {
			t.Fatal(err)
		}
		if _, err := s.XA().Prepare(ctx, x); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"POLYLOG_URL": url}
	run := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := call(t, env, "", append([]string{"branch"}, args...)...)
		if code != want {
			t.Fatalf("%v: exit code %d, %s", args, code, errs)
		}
		return out + errs
	}
	var listed []struct {
		XID, State   string
		Sends        int
		Destinations []string
	}
	if err := json.Unmarshal([]byte(run(exitOK, "list", "-o", "json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed) != 2 || listed[0].XID != "1:6f72646572:61" || listed[0].State != "prepared" || listed[0].Sends != 1 || listed[0].Destinations[0] != "orders" {
		t.Errorf("%+v", listed)
	}
	if got := run(exitUsage, "commit", a.String()); !strings.Contains(got, "--yes") {
		t.Error(got)
	}
	if got := run(exitUsage, "commit", "--yes", "order"); !strings.Contains(got, "polylog branch list") {
		t.Error(got)
	}
	run(exitOK, "commit", "--yes", a.String())
	run(exitOK, "rollback", "--yes", b.String())
	if got := run(exitRefused, "commit", "--yes", b.String()); !strings.Contains(got, "have it forgotten") {
		t.Error(got)
	}
	if got := run(exitOK, "list"); strings.Count(got, "heuristically-") != 2 {
		t.Error(got)
	}
	run(exitOK, "forget", "--yes", a.String(), b.String())
	if got := run(exitOK, "list", "-o", "jsonl"); got != "" {
		t.Error(got)
	}
	code, out, errs := call(t, env, "", "queue", "take", "orders", "--timeout", "5s")
	if code != exitOK || out != "a\n" {
		t.Errorf("exit code %d, %q, %s", code, out, errs)
	}
}
