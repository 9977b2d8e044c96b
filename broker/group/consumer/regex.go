package consumer

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// maxRegexBytes bounds a regular expression: INVALID_REGULAR_EXPRESSION.
const maxRegexBytes = 4096

// regex is a regular expression that members subscribe to, and the topics it
// stands for.
type regex struct {
	regexValue
	compiled *regexp.Regexp // nil until it is needed after a restart
}

// compileRegex takes the syntax of RE2, which is also that of Go.
func compileRegex(s string) (*regexp.Regexp, error) {
	x, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	x.Longest() // so that a match of the whole name is found if there is one
	return x, nil
}

// matching are the topics whose whole name matches.
func matching(x *regexp.Regexp, topics Topics) []string {
	var names []string
	for t := range topics.All() {
		if at := x.FindStringIndex(t.Name); at != nil && at[0] == 0 && at[1] == len(t.Name) {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return names
}

// addRegex makes a regular expression known that a member subscribes to.
func (r *roster) addRegex(now time.Time, s string, compiled *regexp.Regexp, topics Topics) (added bool) {
	if s == "" || r.regexes[s] != nil {
		return false
	}
	r.write(typeRegex, s, regexValue{topics: matching(compiled, topics), version: 1, timeMillis: now.UnixMilli()})
	r.regexes[s].compiled = compiled
	return true
}

// dropRegex forgets a regular expression that no member subscribes to any more.
func (r *roster) dropRegex(s string) {
	if s == "" || r.regexes[s] == nil {
		return
	}
	for _, m := range r.members {
		if m.regex == s {
			return
		}
	}
	r.erase(typeRegex, s)
}

// resolveRegexes finds the topics of all regular expressions again, and tells
// whether they are others. It also mends what a torn write may have left: a regular expression without topics,
// or one that nobody subscribes to.
func (r *roster) resolveRegexes(now time.Time, topics Topics) (changed bool) {
	for _, s := range slices.Sorted(maps.Keys(r.regexes)) {
		r.dropRegex(s)
	}
	wanted := map[string]bool{}
	for _, m := range r.members {
		if m.regex != "" {
			wanted[m.regex] = true
		}
	}
	for _, s := range slices.Sorted(maps.Keys(wanted)) {
		x := r.regexes[s]
		if x == nil {
			x = &regex{}
		}
		if x.compiled == nil {
			compiled, err := compileRegex(s)
			if err != nil {
				continue // another broker took it: what it found stands
			}
			x.compiled = compiled
		}
		found := matching(x.compiled, topics)
		if r.regexes[s] == nil || !slices.Equal(found, x.topics) {
			r.write(typeRegex, s, regexValue{topics: found, version: x.version + 1, timeMillis: now.UnixMilli()})
			r.regexes[s].compiled = x.compiled
			changed = true
		}
	}
	return changed
}
