package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "polylog.toml")
	text := "url = \"polylog://file:1\"\nquiet = true\n[serve]\nmax-connections = 5\nnative-listen = \"127.0.0.1:1\"\nheartbeat = \"3s\"\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"POLYLOG_CONFIG": file, "POLYLOG_NATIVE_LISTEN": "", "POLYLOG_HEARTBEAT": "4s", "POLYLOG_URL": "polylog://env:1"}
	code, out, errs := call(t, env, "", "config", "print", "-o", "json", "--heartbeat", "5s", "--url=polylog://me:secret@flag:1")
	if code != 0 {
		t.Fatal(errs)
	}
	var infos []settingInfo
	if err := json.Unmarshal([]byte(out), &infos); err != nil {
		t.Fatal(err)
	}
	got := map[string]settingInfo{}
	for _, i := range infos {
		got[i.Key] = i
	}
	for _, want := range []settingInfo{
		{"url", "polylog://me:xxxxx@flag:1", "flag --url"},
		{"output", "json", "flag --output"},
		{"quiet", "true", "file " + file},
		{"log-level", "info", "default"},
		{"serve.heartbeat", "5s", "flag --heartbeat"},
		{"serve.native-listen", "", "environment POLYLOG_NATIVE_LISTEN"},
		{"serve.max-connections", "5", "file " + file},
		{"serve.insecure", "false", "default"},
	} {
		if got[want.Key] != want {
			t.Errorf("%+v, want %+v", got[want.Key], want)
		}
	}
	if len(infos) != len(settings) {
		t.Errorf("%d settings are printed, there are %d", len(infos), len(settings))
	}
}

func TestFileErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"ulr = \"x\"", "no setting is called ulr; did you mean url?"},
		{"[serve]\nmax-conections = 5", "did you mean serve.max-connections?"},
		{"[server]\ndata = \"x\"", "no setting is called server"},
		{"[serve]\nmax-connections = \"5\"", "must be a number"},
		{"[serve]\nheartbeat = 5", `must be a text such as "30s"`},
		{"[serve]\nheartbeat = \"5 parsecs\"", "no duration"},
		{"[serve]\nnative-listen = \"7400\"", "HOST:PORT"},
		{"url = ", "line 1"},
		{"quiet = \"yes\"", "must be true or false"},
	} {
		file := filepath.Join(t.TempDir(), "polylog.toml")
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		code, _, errs := call(t, nil, "", "--config", file, "config", "print")
		if code != exitUsage || !strings.Contains(errs, c.want) || !strings.Contains(errs, file) {
			t.Errorf("%q: exit code %d, %q; want %q", c.text, code, errs, c.want)
		}
	}
	if code, _, errs := call(t, nil, "", "--config", "/nowhere/polylog.toml", "config", "print"); code != exitUsage || !strings.Contains(errs, "/nowhere") {
		t.Errorf("a file that is not there: exit code %d, %s", code, errs)
	}
}

// The defaults pass their own checks, and the file that is printed holds all
// of them once its comments are taken away.
func TestDefaultFile(t *testing.T) {
	for _, s := range settings {
		if err := s.check(s.fallback); err != nil {
			t.Errorf("default of %s: %v", s.key(), err)
		}
	}
	var b strings.Builder
	for line := range strings.Lines(defaultFile()) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		b.WriteString(line)
	}
	values, err := parseFile(b.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if got, ok := values[s.key()]; !ok || got != s.fallback {
			t.Errorf("%s is %q in the file, %q in truth", s.key(), got, s.fallback)
		}
	}
	if _, err := toml.Decode(defaultFile(), &map[string]any{}); err != nil {
		t.Error(err)
	}
}
