package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polylog-mq/polylog/wire/native"
)

func TestParsePartitions(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", "0": "[0]", "3,0-2": "[0 1 2 3]", "1,1": "[1]", "0-9999": "",
		"1-0": "error", "-1": "error", "1-": "error", ",": "error", "0-10000": "error", "0-9999,10000": "error",
		"99999999999": "error", "0-2147483647": "error", "a": "error",
	} {
		got, err := parsePartitions(text)
		if (err != nil) != (want == "error") || err == nil && want != "" && fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if again, err := parsePartitions(rangesOf(got)); err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("%q is written as %q", text, rangesOf(got))
		}
	}
}

func TestAssignmentOf(t *testing.T) {
	got := assignmentOf([]native.TopicPartition{{Topic: "b", Partition: 1}, {Topic: "a", Partition: 2}, {Topic: "b", Partition: 0}})
	if fmt.Sprint(got) != "[{a [2]} {b [0 1]}]" {
		t.Error(got)
	}
}

func TestGroupUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"lits", "did you mean list?"},
		{"describe", "usage: polylog group describe NAME"},
		{"describe g --members --state", "give one of --offsets"},
		{"reset g --topic t", "where to?"},
		{"reset g --topic t --to-earliest --to-latest", "where to?"},
		{"reset g --to-earliest", "which offsets?"},
		{"reset g --to-earliest --topic t --all-topics", "which offsets?"},
		{"reset g --to-earliest --topic t:3-1", `"3-1" is no list of partitions`},
		{"reset g --to-earliest --topic=", "needs a topic's name"},
		{"reset g --to-offset -1 --topic t", "begin at 0"},
		{"reset g --to-time soon --topic t", "no time"},
		{"reset g --by-duration 5 --topic t", "write 5s"},
		{"reset g --to-earliest --topic t", "Add --yes"},
		{"delete g", "Add --yes"},
		{"delete-offsets g", "which offsets?"},
		{"delete-offsets g --topic t", "Add --yes"},
	} {
		args := append([]string{"group"}, strings.Fields(c.args)...)
		code, _, errs := call(t, map[string]string{"POLYLOG_URL": "polylog://127.0.0.1:1"}, "", args...)
		if code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %s", c.args, code, errs)
		}
	}
}
