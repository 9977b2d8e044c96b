package destination

import (
	"fmt"
	"slices"
	"strings"
)

// Principal is who asks for something.
type Principal struct {
	Name string // that the peer proved to have; empty: nobody
	Host string // the address it comes from, without a port; empty: within the process
}

// ACL is one rule of who may do what, in Kafka's model (KIP-11, KIP-290). A rule that
// denies wins over all that allow.
type ACL struct {
	Resource  ResourceType `json:"resource"`
	Name      string       `json:"name"` // AnyName: every one, if the pattern is literal
	Pattern   PatternType  `json:"pattern"`
	Principal string       `json:"principal"` // User:NAME, or AnyPrincipal
	Host      string       `json:"host"`      // an address, or AnyHost
	Operation Access       `json:"operation"`
	Effect    Effect       `json:"effect"`
}

// What stands for all of a kind in a rule.
const (
	AnyName         = "*"
	AnyHost         = "*"
	AnyPrincipal    = "User:*"
	PrincipalPrefix = "User:"
	ClusterName     = "kafka-cluster" // of the one resource of type cluster
)

// ResourceType is what a rule is about. The numbers are Kafka's.
type ResourceType int8

// The types. Any is for filters.
const (
	ResourceAny             ResourceType = 1
	ResourceTopic           ResourceType = 2 // a destination, whatever its kind
	ResourceGroup           ResourceType = 3 // a consumer group, a share group, a subscription by its name
	ResourceCluster         ResourceType = 4
	ResourceTransactionalID ResourceType = 5
)

// PatternType is how a rule's name is meant. The numbers are Kafka's.
type PatternType int8

// The types. Any and Match are for filters: Match takes all the rules that apply to a
// name.
const (
	PatternAny      PatternType = 1
	PatternMatch    PatternType = 2
	PatternLiteral  PatternType = 3
	PatternPrefixed PatternType = 4
)

// Access is what a rule allows or denies. The numbers are Kafka's.
type Access int8

// The kinds of access. Any is for filters.
const (
	AccessAny             Access = 1
	AccessAll             Access = 2
	AccessRead            Access = 3
	AccessWrite           Access = 4
	AccessCreate          Access = 5
	AccessDelete          Access = 6
	AccessAlter           Access = 7
	AccessDescribe        Access = 8
	AccessClusterAction   Access = 9
	AccessDescribeConfigs Access = 10
	AccessAlterConfigs    Access = 11
	AccessIdempotentWrite Access = 12
)

// Effect is whether a rule allows or denies. The numbers are Kafka's.
type Effect int8

// The effects. Any is for filters.
const (
	EffectAny   Effect = 1
	EffectDeny  Effect = 2
	EffectAllow Effect = 3
)

// The names by number, as Kafka's tools write them.
var (
	resourceNames = []string{1: "any", 2: "topic", 3: "group", 4: "cluster", 5: "transactional-id"}
	patternNames  = []string{1: "any", 2: "match", 3: "literal", 4: "prefixed"}
	accessNames   = []string{
		1: "any", 2: "all", 3: "read", 4: "write", 5: "create", 6: "delete", 7: "alter", 8: "describe",
		9: "cluster-action", 10: "describe-configs", 11: "alter-configs", 12: "idempotent-write",
	}
	effectNames = []string{1: "any", 2: "deny", 3: "allow"}
)

func (r ResourceType) String() string { return nameOf(resourceNames, r) }
func (p PatternType) String() string  { return nameOf(patternNames, p) }
func (a Access) String() string       { return nameOf(accessNames, a) }
func (e Effect) String() string       { return nameOf(effectNames, e) }

// MarshalText writes the name.
func (r ResourceType) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText writes the name.
func (p PatternType) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// MarshalText writes the name.
func (a Access) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalText writes the name.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads a name: ErrInvalid.
func (r *ResourceType) UnmarshalText(text []byte) error {
	return named(r, resourceNames, "resource type", text)
}

// UnmarshalText reads a name: ErrInvalid.
func (p *PatternType) UnmarshalText(text []byte) error {
	return named(p, patternNames, "pattern type", text)
}

// UnmarshalText reads a name: ErrInvalid.
func (a *Access) UnmarshalText(text []byte) error { return named(a, accessNames, "operation", text) }

// UnmarshalText reads a name: ErrInvalid.
func (e *Effect) UnmarshalText(text []byte) error { return named(e, effectNames, "permission", text) }

func nameOf[T ~int8](names []string, v T) string {
	if int(v) > 0 && int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

func named[T ~int8](v *T, names []string, what string, text []byte) error {
	name := strings.ReplaceAll(strings.ToLower(string(text)), "_", "-")
	i := slices.Index(names, name)
	if i <= 0 {
		return fmt.Errorf("%w: %s %.40q: one of %s", ErrInvalid, what, text, strings.Join(names[1:], ", "))
	}
	*v = T(i)
	return nil
}

// possible are the operations that make sense for each type, besides all. Kafka's
// AclEntry has the same table.
var possible = map[ResourceType][]Access{
	ResourceTopic: {
		AccessRead, AccessWrite, AccessCreate, AccessDelete, AccessAlter, AccessDescribe, AccessDescribeConfigs, AccessAlterConfigs,
	},
	ResourceGroup: {AccessRead, AccessDescribe, AccessDelete, AccessDescribeConfigs, AccessAlterConfigs},
	ResourceCluster: {
		AccessCreate, AccessClusterAction, AccessDescribeConfigs, AccessAlterConfigs, AccessIdempotentWrite, AccessAlter, AccessDescribe,
	},
	ResourceTransactionalID: {AccessWrite, AccessDescribe},
}

// Check says whether it is a rule: ErrInvalid.
func (a ACL) Check() error {
	switch accesses, known := possible[a.Resource]; {
	case !known:
		return fmt.Errorf("%w: a rule for resource type %s", ErrInvalid, a.Resource)
	case a.Name == "":
		return fmt.Errorf("%w: a rule without a resource", ErrInvalid)
	case a.Resource == ResourceCluster && a.Name != ClusterName:
		return fmt.Errorf("%w: the one cluster is called %s", ErrInvalid, ClusterName)
	case a.Pattern != PatternLiteral && a.Pattern != PatternPrefixed:
		return fmt.Errorf("%w: a rule with pattern %s", ErrInvalid, a.Pattern)
	case a.Operation != AccessAll && !slices.Contains(accesses, a.Operation):
		return fmt.Errorf("%w: operation %s makes no sense for a %s", ErrInvalid, a.Operation, a.Resource)
	case a.Effect != EffectAllow && a.Effect != EffectDeny:
		return fmt.Errorf("%w: a rule that neither allows nor denies", ErrInvalid)
	case !strings.HasPrefix(a.Principal, PrincipalPrefix) || a.Principal == PrincipalPrefix:
		return fmt.Errorf("%w: principal %.80q: it is %sNAME", ErrInvalid, a.Principal, PrincipalPrefix)
	case a.Host == "":
		return fmt.Errorf("%w: a rule without a host; %s is all", ErrInvalid, AnyHost)
	}
	return nil
}

// ACLFilter selects rules. Zero fields select all.
type ACLFilter struct {
	Resource  ResourceType
	Name      *string
	Pattern   PatternType
	Principal *string
	Host      *string
	Operation Access
	Effect    Effect
}

// Matches reports whether it selects a rule. Kafka's AclBindingFilter
func (f ACLFilter) Matches(a ACL) bool {
	is := func(want *string, got string) bool { return want == nil || *want == got }
	return (f.Resource <= ResourceAny || f.Resource == a.Resource) && f.matchesName(a) && is(f.Principal, a.Principal) && is(f.Host, a.Host) &&
		(f.Operation <= AccessAny || f.Operation == a.Operation) && (f.Effect <= EffectAny || f.Effect == a.Effect)
}

func (f ACLFilter) matchesName(a ACL) bool {
	if f.Pattern != PatternMatch || f.Name == nil {
		return (f.Pattern <= PatternMatch || f.Pattern == a.Pattern) && (f.Name == nil || *f.Name == a.Name)
	}
	if a.Pattern == PatternPrefixed {
		return strings.HasPrefix(*f.Name, a.Name)
	}
	return a.Name == *f.Name || a.Name == AnyName
}

// UserInfo is what is told of a user.
type UserInfo struct {
	Name       string
	Mechanisms []string // by which it can prove to be who it is
	Super      bool     // may do everything
}
