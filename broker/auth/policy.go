package auth

import (
	"slices"

	"github.com/polylog-mq/polylog/destination"
)

// policy is the rules, ordered to be asked. It does not change.
type policy struct {
	rules   map[destination.ACL]struct{}
	grants  map[key][]grant
	lengths map[destination.ResourceType][]int // of the prefixes that there are, ascending
}

// key is what a question is looked up by: it costs the same however many rules there
// are about other names.
type key struct {
	resource  destination.ResourceType
	pattern   destination.PatternType
	name      string
	principal string // without its prefix; *: everybody
}

// grant is what a principal may and may not do on a resource, from one host.
type grant struct {
	host        string
	allow, deny mask
}

// mask is a set of destination.Access.
type mask uint16

const everything = ^mask(0)

func bit(a destination.Access) mask { return 1 << a }

// allowed are the operations that a rule which allows a includes.
// Kafka's AclAuthorizer: DESCRIBE is implied by READ, WRITE, DELETE and ALTER,
// DESCRIBE_CONFIGS by ALTER_CONFIGS.
func allowed(a destination.Access) mask {
	switch a {
	case destination.AccessAll:
		return everything
	case destination.AccessRead, destination.AccessWrite, destination.AccessDelete, destination.AccessAlter:
		return bit(a) | bit(destination.AccessDescribe)
	case destination.AccessAlterConfigs:
		return bit(a) | bit(destination.AccessDescribeConfigs)
	}
	return bit(a)
}

func newPolicy(rules map[destination.ACL]struct{}) *policy {
	p := &policy{rules: rules, grants: map[key][]grant{}, lengths: map[destination.ResourceType][]int{}}
	for r := range rules {
		k := key{r.Resource, r.Pattern, r.Name, r.Principal[len(destination.PrincipalPrefix):]}
		list := p.grants[k]
		i := slices.IndexFunc(list, func(g grant) bool { return g.host == r.Host })
		if i < 0 {
			i = len(list)
			list = append(list, grant{host: r.Host})
		}
		switch {
		case r.Effect == destination.EffectAllow:
			list[i].allow |= allowed(r.Operation)
		case r.Operation == destination.AccessAll:
			list[i].deny = everything
		default:
			list[i].deny |= bit(r.Operation)
		}
		p.grants[k] = list
		if r.Pattern == destination.PatternPrefixed {
			p.lengths[r.Resource] = append(p.lengths[r.Resource], len(r.Name))
		}
	}
	for r, lengths := range p.lengths {
		slices.Sort(lengths)
		p.lengths[r] = slices.Compact(lengths)
	}
	return p
}

// allows says whether who may do a with a resource. It allocates nothing.
func (p *policy) allows(who destination.Principal, r destination.ResourceType, name string, a destination.Access) bool {
	allow, deny := p.of(who, r, destination.PatternLiteral, name)
	if name != destination.AnyName {
		more, less := p.of(who, r, destination.PatternLiteral, destination.AnyName)
		allow, deny = allow|more, deny|less
	}
	for _, n := range p.lengths[r] {
		if n > len(name) {
			break
		}
		more, less := p.of(who, r, destination.PatternPrefixed, name[:n])
		allow, deny = allow|more, deny|less
	}
	return allow&bit(a) != 0 && deny&bit(a) == 0
}

// of is what the rules of one pattern say, for everybody and for who.
func (p *policy) of(who destination.Principal, r destination.ResourceType, pattern destination.PatternType, name string) (allow, deny mask) {
	for _, principal := range [...]string{who.Name, "*"} {
		for _, g := range p.grants[key{r, pattern, name, principal}] {
			if g.host == destination.AnyHost || g.host == who.Host {
				allow |= g.allow
				deny |= g.deny
			}
		}
	}
	return allow, deny
}

// somewhere says whether who may do a with some resource of a type: whether there is a
// rule that allows it of which no rule that denies takes everything. KIP-679
func (p *policy) somewhere(who destination.Principal, r destination.ResourceType, a destination.Access) bool {
	if _, deny := p.of(who, r, destination.PatternLiteral, destination.AnyName); deny&bit(a) != 0 {
		return false
	}
	for k, grants := range p.grants {
		if k.resource != r || k.principal != who.Name && k.principal != "*" {
			continue
		}
		for _, g := range grants {
			if g.allow&bit(a) != 0 && (g.host == destination.AnyHost || g.host == who.Host) && !p.denied(who, k, a) {
				return true
			}
		}
	}
	return false
}

// denied says whether all that a key's pattern covers is denied.
func (p *policy) denied(who destination.Principal, k key, a destination.Access) bool {
	if k.pattern == destination.PatternLiteral && k.name != destination.AnyName {
		return !p.allows(who, k.resource, k.name, a)
	}
	for _, n := range p.lengths[k.resource] {
		if n > len(k.name) || k.pattern == destination.PatternLiteral {
			break
		}
		if _, deny := p.of(who, k.resource, destination.PatternPrefixed, k.name[:n]); deny&bit(a) != 0 {
			return true
		}
	}
	return false
}
