package consumer

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// kafkaRecords are records that Kafka's own classes wrote, by name.
func kafkaRecords(t testing.TB) (names []string, records map[string]Record) {
	t.Helper()
	b, err := os.ReadFile("testdata/kafka.txt")
	if err != nil {
		t.Fatal(err)
	}
	records = map[string]Record{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		var r Record
		if r.Key, err = hex.DecodeString(f[1]); err != nil {
			t.Fatal(err)
		}
		if f[2] != "-" {
			if r.Value, err = hex.DecodeString(f[2]); err != nil {
				t.Fatal(err)
			}
		}
		names = append(names, f[0])
		records[f[0]] = r
	}
	return names, records
}

// Records read and written as Kafka's classes do. Those marked lossy have
// fields that are not kept: they are only read.
func TestRecordsAreKafkas(t *testing.T) {
	t1 := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	t2 := [16]byte{17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32}
	group := func(kind int16) key { return key{kind: kind, group: "g"} }
	item := func(kind int16) key { return key{kind: kind, group: "g", item: "m"} }
	none := map[Partition]int32{}
	want := map[string]struct {
		key   key
		value value
		lossy bool
	}{
		"group":             {key: group(typeGroup), value: groupValue{epoch: 7, hash: 0x1122334455667788}},
		"group-plain":       {key: group(typeGroup), value: groupValue{epoch: 7}},
		"group-unknown-tag": {key: group(typeGroup), value: groupValue{epoch: 7, hash: 1}, lossy: true},
		"group-tombstone":   {key: group(typeGroup)},
		"topics":            {key: group(typeTopics), lossy: true},
		"topics-tombstone":  {key: group(typeTopics)},
		"member": {key: item(typeMember), value: memberValue{
			instance: "i", rack: "r", clientID: "c", clientHost: "/h", topics: []string{"a", "b"}, regex: "x.*",
			rebalanceTimeoutMillis: 300_000, assignor: "range",
		}},
		"member-plain": {key: item(typeMember), value: memberValue{clientID: "c", clientHost: "/h", rebalanceTimeoutMillis: -1}},
		"member-classic": {key: item(typeMember), lossy: true, value: memberValue{ // its regular expression is not null, but empty
			clientID: "c", clientHost: "/h", topics: []string{"a"}, rebalanceTimeoutMillis: 1,
			classic: &classicValue{sessionMillis: 45_000, protocols: []classicProtocol{{"range", []byte{9}}}},
		}},
		"target":           {key: group(typeTarget), value: targetValue{epoch: 8}},
		"target-timestamp": {key: group(typeTarget), value: targetValue{epoch: 8}, lossy: true},
		"target-member":    {key: item(typeTargetMember), value: targetMemberValue{{t1, 0}, {t1, 5}, {t2, 1}}},
		"current": {key: item(typeCurrent), value: currentValue{
			epoch: 9, previousEpoch: 8, state: unrevoked,
			assigned: map[Partition]int32{{t1, 0}: 3, {t1, 5}: 9}, revoking: map[Partition]int32{{t2, 1}: 4},
		}},
		"current-plain": {key: item(typeCurrent), lossy: true, value: currentValue{
			epoch: -2, previousEpoch: 8, assigned: map[Partition]int32{{t1, 0}: -2, {t1, 5}: -2}, revoking: none,
		}},
		"regex": {key: key{kind: typeRegex, group: "g", item: "x.*"}, value: regexValue{
			topics: []string{"x1", "x2"}, version: 12, timeMillis: 1_700_000_000_000,
		}},
		"share-member": {key: item(typeShareMember), value: memberValue{
			rack: "r", clientID: "c", clientHost: "/h", topics: []string{"a", "b"},
		}},
		"share-group":         {key: group(typeShareGroup), value: groupValue{epoch: 7, hash: 0x1122334455667788}},
		"share-target":        {key: group(typeShareTarget), value: targetValue{epoch: 8}},
		"share-target-member": {key: item(typeShareTargetMember), value: targetMemberValue{{t1, 0}, {t1, 5}}},
		"share-current": {key: item(typeShareCurrent), value: currentValue{
			epoch: 9, previousEpoch: 8, assigned: map[Partition]int32{{t1, 0}: 9, {t1, 5}: 9},
		}},
		"share-state": {key: group(typeShareState), value: shareStateValue{
			topics: []initializedTopic{{id: t1, name: "a", partitions: []int32{0, 5}}},
		}},
		"share-state-full": {key: group(typeShareState), lossy: true, value: shareStateValue{
			topics: []initializedTopic{{id: t1, name: "a", partitions: []int32{0, 5}}},
		}},
	}
	names, records := kafkaRecords(t)
	if len(names) != len(want) {
		t.Errorf("%d records, %d are expected", len(names), len(want))
	}
	for _, name := range names {
		r, w := records[name], want[name]
		k, err := parseKey(r.Key)
		if err != nil || k != w.key {
			t.Errorf("%s: key is read as %+v, %v", name, k, err)
		}
		if r.Value != nil {
			v, err := parseValue(k.kind, r.Value)
			if err != nil || !reflect.DeepEqual(v, w.value) {
				t.Errorf("%s: value is read as %#v, %v", name, v, err)
			}
		}
		if w.lossy {
			continue
		}
		if got := newRecord(w.key, w.value); !reflect.DeepEqual(got, r) {
			t.Errorf("%s: written as %x %x", name, got.Key, got.Value)
		}
	}
}

func TestRecordsOfOthers(t *testing.T) {
	offset := append(appendInt16(nil, 1), 0, 1, 'g', 0, 1, 't', 0, 0, 0, 0)
	streams := append(appendInt16(nil, 17), 0, 1, 'g')
	for _, k := range [][]byte{offset, streams, nil, {0}} {
		if _, consumer, share := Owns(k); consumer || share {
			t.Errorf("%x is taken for a record of a group", k)
		}
	}
	g := New("g", Options{})
	s := NewShare("g", Options{})
	_, records := kafkaRecords(t)
	for name, r := range records {
		id, consumer, share := Owns(r.Key)
		if id != "g" || consumer == share {
			t.Errorf("%s is of %q, consumer %t, share %t", name, id, consumer, share)
		}
		if err := g.Replay(r.Key, r.Value); (err == nil) != consumer {
			t.Errorf("%s: a consumer group's replay says %v", name, err)
		}
		if err := s.Replay(r.Key, r.Value); (err == nil) != share {
			t.Errorf("%s: a share group's replay says %v", name, err)
		}
		if err := New("h", Options{}).Replay(r.Key, r.Value); err == nil {
			t.Errorf("%s is taken by another group", name)
		}
	}
	newer := slices.Clone(records["group"].Value)
	newer[1] = 1
	if err := g.Replay(records["group"].Key, newer); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("a newer version: %v", err)
	}
}

// FuzzReplay: whatever the bytes, they are refused, or are the same after they
// were written and read again, and take no memory that they did not pay for.
func FuzzReplay(f *testing.F) {
	_, records := kafkaRecords(f)
	for _, r := range records {
		f.Add(r.Key, r.Value)
		if len(r.Value) > 3 {
			f.Add(r.Key, r.Value[:len(r.Value)/2])
		}
	}
	f.Add([]byte{0, 8, 0, 1, 'g', 0, 1, 'm'}, []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, k, v []byte) {
		id, consumer, share := Owns(k)
		if !consumer && !share {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var err error
		if consumer {
			g := New(id, Options{})
			err = g.Replay(k, v)
			g.Delete()
		} else {
			g := NewShare(id, Options{})
			err = g.Replay(k, v)
			g.Delete()
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20+uint64(len(v))*200 {
			t.Fatalf("%d bytes were allocated for %d", grown, len(v))
		}
		if err != nil || v == nil {
			return
		}
		parsed, err := parseKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(parsed.bytes(), k) {
			t.Fatalf("key %x is written as %x", k, parsed.bytes())
		}
		first, err := parseValue(parsed.kind, v)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			return
		}
		again, err := parseValue(parsed.kind, newRecord(parsed, first).Value)
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("%#v is read back as %#v, %v", first, again, err)
		}
	})
}
