package auth

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
	"pgregory.net/rapid"

	"github.com/polylog-mq/polylog/destination"
)

// memory is a Store that counts, and refuses if it is told to.
type memory struct {
	users map[string]User
	acls  map[destination.ACL]bool
	err   error
}

func (m *memory) PutUser(u User) error {
	if m.err == nil {
		m.users[u.Name] = u
	}
	return m.err
}

func (m *memory) DeleteUser(name string) error {
	if m.err == nil {
		delete(m.users, name)
	}
	return m.err
}

func (m *memory) ChangeACLs(add, remove []destination.ACL) error {
	if m.err != nil {
		return m.err
	}
	for _, r := range add {
		m.acls[r] = true
	}
	for _, r := range remove {
		delete(m.acls, r)
	}
	return nil
}

func authority(t testing.TB, supers ...string) (*Authority, *memory) {
	t.Helper()
	m := &memory{users: map[string]User{}, acls: map[destination.ACL]bool{}}
	return New(m, nil, nil, supers, []byte("secret"), func() {}), m
}

func allow(r destination.ResourceType, name, user string, a destination.Access) destination.ACL {
	return destination.ACL{
		Resource: r, Name: name, Pattern: destination.PatternLiteral, Principal: destination.PrincipalPrefix + user,
		Host: destination.AnyHost, Operation: a, Effect: destination.EffectAllow,
	}
}

func ann(host string) destination.Principal { return destination.Principal{Name: "ann", Host: host} }

// naive is what the rules say, rule by rule: deny wins, and some operations include
// others.
func naive(rules []destination.ACL, who destination.Principal, r destination.ResourceType, name string, a destination.Access) bool {
	applies := func(acl destination.ACL) bool {
		named := acl.Name == name || acl.Name == "*"
		if acl.Pattern == destination.PatternPrefixed {
			named = strings.HasPrefix(name, acl.Name)
		}
		return acl.Resource == r && named && (acl.Principal == "User:*" || acl.Principal == "User:"+who.Name) && (acl.Host == "*" || acl.Host == who.Host)
	}
	includes := func(have destination.Access) bool {
		switch {
		case have == a || have == destination.AccessAll:
			return true
		case a == destination.AccessDescribe:
			return slices.Contains([]destination.Access{destination.AccessRead, destination.AccessWrite, destination.AccessDelete, destination.AccessAlter}, have)
		case a == destination.AccessDescribeConfigs:
			return have == destination.AccessAlterConfigs
		}
		return false
	}
	allowed := false
	for _, acl := range rules {
		if !applies(acl) {
			continue
		}
		if acl.Effect == destination.EffectDeny && (acl.Operation == a || acl.Operation == destination.AccessAll) {
			return false
		}
		allowed = allowed || acl.Effect == destination.EffectAllow && includes(acl.Operation)
	}
	return allowed
}

var (
	genName = rapid.SampledFrom([]string{"a", "ab", "abc", "b", "ba", "*", ""})
	genACL  = rapid.Custom(func(t *rapid.T) destination.ACL {
		return destination.ACL{
			Resource:  rapid.SampledFrom([]destination.ResourceType{destination.ResourceTopic, destination.ResourceGroup}).Draw(t, "resource"),
			Name:      genName.Filter(func(s string) bool { return s != "" }).Draw(t, "name"),
			Pattern:   rapid.SampledFrom([]destination.PatternType{destination.PatternLiteral, destination.PatternPrefixed}).Draw(t, "pattern"),
			Principal: rapid.SampledFrom([]string{"User:ann", "User:bob", "User:*"}).Draw(t, "principal"),
			Host:      rapid.SampledFrom([]string{"*", "h1", "h2"}).Draw(t, "host"),
			Operation: destination.Access(rapid.IntRange(2, 12).Draw(t, "operation")),
			Effect:    rapid.SampledFrom([]destination.Effect{destination.EffectAllow, destination.EffectAllow, destination.EffectDeny}).Draw(t, "effect"),
		}
	})
)

func TestPolicyIsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(genACL, 0, 12).Draw(t, "rules")
		set := map[destination.ACL]struct{}{}
		for _, r := range rules {
			set[r] = struct{}{}
		}
		p := newPolicy(set)
		for range 20 {
			who := destination.Principal{Name: rapid.SampledFrom([]string{"ann", "bob", "eve"}).Draw(t, "who"), Host: rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "from")}
			r := rapid.SampledFrom([]destination.ResourceType{destination.ResourceTopic, destination.ResourceGroup}).Draw(t, "of")
			name, a := genName.Draw(t, "asked"), destination.Access(rapid.IntRange(3, 12).Draw(t, "what"))
			if got, want := p.allows(who, r, name, a), naive(rules, who, r, name, a); got != want {
				t.Fatalf("%v %v %q %v: %v, want %v\n%+v", who, r, name, a, got, want, rules)
			}
			// Who may do it with a name that is asked for may do it somewhere.
			if name != "" && name != "*" && p.allows(who, r, name, a) && !p.somewhere(who, r, a) {
				t.Fatalf("%v may %v %q, but nowhere\n%+v", who, a, name, rules)
			}
		}
	})
}

func TestAuthorize(t *testing.T) {
	a, _ := authority(t, "root")
	if err := a.CreateACLs(
		allow(destination.ResourceTopic, "orders", "ann", destination.AccessWrite),
		allow(destination.ResourceGroup, "audit", "ann", destination.AccessRead),
		allow(destination.ResourceCluster, destination.ClusterName, "bob", destination.AccessCreate),
	); err != nil {
		t.Fatal(err)
	}
	bob := destination.Principal{Name: "bob"}
	for _, c := range []struct {
		who      destination.Principal
		op       destination.Operation
		resource string
		may      bool
	}{
		{ann(""), destination.OperationSend, "orders", true},
		{ann(""), destination.OperationDescribe, "orders", true},
		{ann(""), destination.OperationConsume, "orders", false},
		{ann(""), destination.OperationSend, "other", false},
		{ann(""), destination.OperationSubscribe, "audit", true},
		{ann(""), destination.OperationDescribeGroup, "audit", true},
		{ann(""), destination.OperationDeleteGroup, "audit", false},
		{ann(""), destination.OperationIdempotentWrite, "", true},
		{bob, destination.OperationIdempotentWrite, "", false},
		{bob, destination.OperationCreate, "anything", true},
		{ann(""), destination.OperationCreate, "anything", false},
		{ann(""), destination.OperationConnect, "id", true},
		{destination.Principal{}, destination.OperationConnect, "id", false},
		{bob, destination.OperationAdminister, "", false},
		{destination.Principal{Name: "root"}, destination.OperationAdminister, "", true},
	} {
		err := a.Authorize(c.who, c.op, c.resource)
		if (err == nil) != c.may || err != nil && !errors.Is(err, destination.ErrUnauthorized) {
			t.Errorf("%v %v %q: %v", c.who, c.op, c.resource, err)
		}
	}
	p := ann("10.0.0.1")
	if n := testing.AllocsPerRun(100, func() { _ = a.Authorize(p, destination.OperationSend, "orders") }); n != 0 {
		t.Errorf("a verdict allocates %v times", n)
	}
}

func TestRulesAreKept(t *testing.T) {
	a, m := authority(t)
	one, two := allow(destination.ResourceTopic, "x", "ann", destination.AccessRead), allow(destination.ResourceTopic, "y", "ann", destination.AccessRead)
	if err := a.CreateACLs(one, two, one); err != nil {
		t.Fatal(err)
	}
	if len(m.acls) != 2 || !reflect.DeepEqual(a.ACLs(destination.ACLFilter{}), []destination.ACL{one, two}) {
		t.Errorf("%v", m.acls)
	}
	name := "x"
	deleted, err := a.DeleteACLs(destination.ACLFilter{Name: &name})
	if err != nil || !reflect.DeepEqual(deleted, []destination.ACL{one}) || len(m.acls) != 1 {
		t.Errorf("%v, %v", deleted, err)
	}
	m.err = errors.New("no disk")
	if err := a.CreateACLs(one); !errors.Is(err, m.err) || len(a.ACLs(destination.ACLFilter{})) != 1 {
		t.Errorf("%v: what is not stored does not hold", err)
	}
	if err := a.CreateACLs(destination.ACL{}); !errors.Is(err, destination.ErrInvalid) {
		t.Error(err)
	}
	text, err := json.Marshal(two)
	var back destination.ACL
	if err != nil || json.Unmarshal(text, &back) != nil || back != two {
		t.Errorf("%s, %v", text, err)
	}
}

func TestFilterMatch(t *testing.T) {
	a, _ := authority(t)
	literal, all := allow(destination.ResourceTopic, "abc", "u", destination.AccessRead), allow(destination.ResourceTopic, "*", "u", destination.AccessRead)
	prefixed, other := allow(destination.ResourceTopic, "ab", "u", destination.AccessRead), allow(destination.ResourceTopic, "ab", "u", destination.AccessRead)
	prefixed.Pattern = destination.PatternPrefixed
	if err := a.CreateACLs(literal, all, prefixed, other); err != nil {
		t.Fatal(err)
	}
	name := "abc"
	if got := a.ACLs(destination.ACLFilter{Name: &name, Pattern: destination.PatternMatch}); len(got) != 3 || slices.Contains(got, other) {
		t.Errorf("%v", got)
	}
	if got := a.ACLs(destination.ACLFilter{Name: &name}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestPassword(t *testing.T) {
	a, m := authority(t)
	if err := a.PutUser("ann", "sécret"); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Password("ann", "sécret"); err != nil || got != "ann" { // SASLprep: the same in another form
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range [][2]string{{"ann", "secret"}, {"ann", ""}, {"bob", "sécret"}, {"", ""}, {"ann", strings.Repeat("x", 2000)}} {
		if got, err := a.Password(c[0], c[1]); !errors.Is(err, ErrFailed) || got != "" {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
	for _, bad := range []string{"", "*", "a\nb", strings.Repeat("x", 300)} {
		if err := a.PutUser(bad, "x"); !errors.Is(err, destination.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	again := New(m, []User{m.users["ann"]}, nil, nil, []byte("secret"), func() {})
	if _, err := again.Password("ann", "sécret"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := a.DeleteUser("ann", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Password("ann", "sécret"); err == nil || len(m.users) != 0 {
		t.Error("deleted, and still there")
	}
	if err := a.DeleteUser("ann", ""); !errors.Is(err, destination.ErrNotFound) {
		t.Error(err)
	}
}

// exchange goes through SCRAM as a client, and returns what the server says first.
func exchange(t *testing.T, a *Authority, mechanism, name, password string) (first, principal string, err error) {
	t.Helper()
	client, err := generators[mechanism].NewClient(name, password, "")
	if err != nil {
		t.Fatal(err)
	}
	c := client.WithMinIterations(Iterations).NewConversation()
	step, err := a.SCRAM(mechanism)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Step("")
	if err != nil {
		t.Fatal(err)
	}
	for done := false; !done; {
		var answer []byte
		if answer, principal, done, err = step([]byte(text)); err != nil {
			return first, "", err
		}
		if first == "" {
			first = string(answer)
		}
		if text, err = c.Step(string(answer)); err != nil {
			t.Fatalf("the client refuses the server: %v", err)
		}
	}
	if !c.Valid() {
		t.Error("the server did not prove that it knows the password")
	}
	return first, principal, nil
}

func TestSCRAM(t *testing.T) {
	a, _ := authority(t)
	if err := a.PutUser("a=n,n", "pencil"); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range Mechanisms() {
		if _, got, err := exchange(t, a, mechanism, "a=n,n", "pencil"); err != nil || got != "a=n,n" {
			t.Errorf("%s: %q, %v", mechanism, got, err)
		}
		if _, _, err := exchange(t, a, mechanism, "a=n,n", "pen"); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", mechanism, err)
		}
		// Somebody who is not there is told the same, with a salt of their own that stays.
		salt := func(first string) string { return strings.Split(first, ",")[1] }
		one, _, err := exchange(t, a, mechanism, "bob", "pencil")
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", mechanism, err)
		}
		two, _, _ := exchange(t, a, mechanism, "bob", "other")
		three, _, _ := exchange(t, a, mechanism, "eve", "pencil")
		if salt(one) != salt(two) || salt(one) == salt(three) || !strings.HasSuffix(one, "i=4096") {
			t.Errorf("%s: %q, %q, %q", mechanism, one, two, three)
		}
	}
	if _, err := a.SCRAM("SCRAM-SHA-1"); !errors.Is(err, destination.ErrUnsupported) {
		t.Error(err)
	}
	for _, bad := range []string{"", "x", "n,,n=ann", "p=tls-unique,,n=ann,r=x", strings.Repeat("n", 5000)} {
		step, _ := a.SCRAM(SHA256)
		if _, _, done, err := step([]byte(bad)); err == nil || done {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

// RFC 7677 §3: what the salted password of its example makes.
func TestVerifierOfTheRFC(t *testing.T) {
	a, m := authority(t)
	client, _ := scram.SHA256.NewClient("user", "pencil", "")
	k, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "W22ZaJ0SNY7soEsUEjb6gQ==", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.PutVerifier("user", SHA256, Verifier{4096, []byte(k.Salt), k.StoredKey, k.ServerKey}); err != nil {
		t.Fatal(err)
	}
	if _, got, err := exchange(t, a, SHA256, "user", "pencil"); err != nil || got != "user" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := a.Password("user", "pencil"); !errors.Is(err, ErrFailed) || m.users["user"].Password != nil {
		t.Error("there is nothing to compare a password with")
	}
	if err := a.DeleteUser("user", SHA512); !errors.Is(err, destination.ErrNotFound) {
		t.Error(err)
	}
	if err := a.DeleteUser("user", SHA256); err != nil || len(m.users) != 0 {
		t.Errorf("%v, %v", err, m.users)
	}
}

func TestFromSalted(t *testing.T) {
	a, _ := authority(t)
	salted, err := pbkdf2.Key(sha512.New, "pencil", []byte("salt"), 5000, 64)
	if err != nil {
		t.Fatal(err)
	}
	v, err := FromSalted(SHA512, 5000, []byte("salt"), salted)
	if err != nil || a.PutVerifier("ann", SHA512, v) != nil {
		t.Fatal(err)
	}
	if first, got, err := exchange(t, a, SHA512, "ann", "pencil"); err != nil || got != "ann" || !strings.HasSuffix(first, "i=5000") {
		t.Errorf("%q, %q, %v", first, got, err)
	}
	if _, err := FromSalted(SHA256, 4095, []byte("s"), make([]byte, 32)); !errors.Is(err, destination.ErrInvalid) {
		t.Error(err)
	}
	if _, err := FromSalted(SHA512, 4096, []byte("s"), make([]byte, 32)); !errors.Is(err, destination.ErrInvalid) {
		t.Error(err)
	}
	if _, err := FromSalted("PLAIN", 4096, []byte("s"), make([]byte, 32)); !errors.Is(err, destination.ErrUnsupported) {
		t.Error(err)
	}
}

func TestBootstrap(t *testing.T) {
	a, _ := authority(t, Administrator)
	password, err := a.Bootstrap()
	if err != nil || len(password) != 24 {
		t.Fatalf("%q, %v", password, err)
	}
	if _, err := a.Password(Administrator, password); err != nil {
		t.Error(err)
	}
	if again, err := a.Bootstrap(); again != "" || err != nil {
		t.Errorf("%q, %v", again, err)
	}
	if list := a.Users(); len(list) != 1 || !list[0].Super || !slices.Equal(list[0].Mechanisms, []string{SHA256, SHA512, "PLAIN"}) {
		t.Errorf("%+v", list)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	a, _ := authority(b)
	var rules []destination.ACL
	for i := range 50_000 {
		rules = append(rules, allow(destination.ResourceTopic, "topic-"+strings.Repeat("x", i%50)+string(rune('a'+i%26)), "ann", destination.AccessWrite))
	}
	if err := a.CreateACLs(rules...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = a.Authorize(ann("h"), destination.OperationSend, "topic-xxxa")
	}
}
