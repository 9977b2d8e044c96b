package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// value is what a setting has come to, and through whom.
type value struct {
	text   string
	source string // "default", "flag --url", "environment POLYLOG_URL" or "file PATH"
}

const sourceDefault = "default"

// configuration is the effective value of every setting by its key. All have
// been checked.
type configuration map[string]value

func (c configuration) text(key string) string { return c[key].text }

// The accessors below cannot fail: resolve has checked the text.
func (c configuration) on(key string) bool {
	b, _ := strconv.ParseBool(c[key].text)
	return b
}

func (c configuration) number(key string) int {
	n, _ := strconv.ParseInt(c[key].text, 10, 64)
	return int(n)
}

func (c configuration) size(key string) int64 {
	n, _ := parseSize(c[key].text)
	return n
}

func (c configuration) duration(key string) time.Duration {
	d, _ := parseDuration(c[key].text)
	return d
}

// shown is a value as it may be seen: without the password of a URL.
func (c configuration) shown(s *setting) string {
	text := c[s.key()].text
	if s.kind == kindURL {
		if u, err := url.Parse(text); err == nil {
			return u.Redacted()
		}
	}
	return text
}

// configured wraps a command's action: it works out the configuration first.
func (r *run) configured(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		path, named := c.String("config"), c.IsSet("config")
		if !named {
			path, named = r.env("POLYLOG_CONFIG")
		}
		file, path, err := r.readFile(path, named)
		if err != nil {
			return err
		}
		flags := func(s *setting) (string, bool) {
			if !c.IsSet(s.name) {
				return "", false
			}
			if s.kind == kindSwitch {
				return strconv.FormatBool(c.Bool(s.name)), true
			}
			return c.String(s.name), true
		}
		r.config, err = resolve(flags, r.env, file, path)
		if err != nil {
			return err
		}
		r.output = format(r.config.text("output"))
		r.quiet = r.config.on("quiet")
		return action(c)
	}
}

// resolve gives every setting its value: a flag's, else the environment's,
// else the file's, else the default. A variable that is set to nothing counts:
// it closes a door as the flag does.
func resolve(flags func(*setting) (string, bool), env func(string) (string, bool), file map[string]string, path string) (configuration, error) {
	c := configuration{}
	for _, s := range settings {
		v := value{s.fallback, sourceDefault}
		if text, ok := flags(s); ok {
			v = value{text, "flag --" + s.name}
		} else if text, ok := env(s.variable()); ok {
			v = value{text, "environment " + s.variable()}
		} else if text, ok := file[s.key()]; ok {
			v = value{text, "file " + path}
		}
		if v.source != sourceDefault {
			if err := s.check(v.text); err != nil {
				return nil, usagef("%s: %w", describeSource(v, s), err)
			}
		}
		c[s.key()] = v
	}
	return c, nil
}

func describeSource(v value, s *setting) string {
	if v.source == "flag --"+s.name || v.source == "environment "+s.variable() {
		return v.source
	}
	return v.source + ", key " + s.key()
}

// readFile reads the configuration file: the named one, else the first of
// r.files that is there.
func (r *run) readFile(path string, named bool) (map[string]string, string, error) {
	candidates := r.files
	if named {
		if path == "" { // POLYLOG_CONFIG= : no file at all
			return nil, "", nil
		}
		candidates = []string{path}
	}
	for _, candidate := range candidates {
		text, err := os.ReadFile(candidate)
		if errors.Is(err, fs.ErrNotExist) && !named {
			continue
		}
		if err != nil {
			return nil, "", usagef("read the configuration: %w", err)
		}
		values, err := parseFile(string(text))
		if err != nil {
			return nil, "", usagef("configuration %s: %w", candidate, err)
		}
		return values, candidate, nil
	}
	return nil, "", nil
}

// parseFile reads a configuration file into texts by key. A key that is not
// known is an error: a setting that nobody reads is worse than none.
func parseFile(text string) (map[string]string, error) {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		if p, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, fmt.Errorf("line %d: %s", p.Position.Line, p.Message)
		}
		return nil, err
	}
	values := map[string]string{}
	for _, name := range sortedKeys(tree) {
		if section, ok := tree[name].(map[string]any); ok && name == sectionServe {
			for _, inner := range sortedKeys(section) {
				if err := takeKey(values, name+"."+inner, section[inner]); err != nil {
					return nil, err
				}
			}
			continue
		}
		if err := takeKey(values, name, tree[name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// takeKey puts one value of the file into values, as text.
func takeKey(values map[string]string, key string, v any) error {
	s := settingOf(key)
	if s == nil {
		return fmt.Errorf("no setting is called %s%s", key, hint(key, keys()))
	}
	text, ok := "", false
	switch v := v.(type) {
	case string:
		text, ok = v, s.kind != kindSwitch && s.kind != kindNumber
	case bool:
		text, ok = strconv.FormatBool(v), s.kind == kindSwitch
	case int64:
		text, ok = strconv.FormatInt(v, 10), s.kind == kindNumber || s.kind == kindSize || s.kind == kindMemory
	}
	if !ok {
		return fmt.Errorf("%s must be %s", key, s.kind.written())
	}
	values[key] = text
	return nil
}

// written says how a kind is written in the file.
func (k kind) written() string {
	switch k {
	case kindSwitch:
		return "true or false"
	case kindNumber:
		return "a number"
	case kindSize, kindMemory:
		return `a number of bytes or a text such as "64MiB"`
	case kindDuration:
		return `a text such as "30s"`
	}
	return "a text in quotes"
}

func settingOf(key string) *setting {
	for _, s := range settings {
		if s.key() == key {
			return s
		}
	}
	return nil
}

func keys() []string {
	var names []string
	for _, s := range settings {
		names = append(names, s.key())
	}
	return names
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
