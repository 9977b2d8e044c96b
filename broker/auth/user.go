package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"
	"golang.org/x/crypto/argon2"

	"github.com/polylog-mq/polylog/destination"
)

// The mechanisms of SCRAM: RFC 5802, RFC 7677.
const (
	SHA256 = "SCRAM-SHA-256"
	SHA512 = "SCRAM-SHA-512"
)

// Mechanisms are those of SCRAM, the stronger first.
func Mechanisms() []string { return []string{SHA512, SHA256} }

var generators = map[string]scram.HashGeneratorFcn{SHA256: scram.SHA256, SHA512: scram.SHA512}

// Iterations is how often a new verifier hashes. MaxIterations is the most that one from
// elsewhere may ask for.
const (
	Iterations    = 4096
	MaxIterations = 16384
)

// maxPassword and maxName bound what is hashed and stored, in bytes.
const (
	maxPassword = 1024
	maxName     = 256
)

// User is who may come.
type User struct {
	Name string `json:"name"`
	// Password is for those that tell it, in PLAIN and the like; nil: they may not.
	Password *Hash `json:"password,omitempty"`
	// SCRAM is by mechanism.
	SCRAM map[string]Verifier `json:"scram,omitempty"`
}

// Verifier is what SCRAM needs to know of a password: RFC 5802 §3.
type Verifier struct {
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// Hash is a password's argon2id: RFC 9106.
type Hash struct {
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
	Salt      []byte `json:"salt"`
	Hash      []byte `json:"hash"`
}

// What a new Hash costs: 19 MiB and two passes, some 30 ms of a core.
const (
	passes    = 2
	memoryKiB = 19 << 10
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// NewUser makes a user with all verifiers of a password: destination.ErrInvalid.
func NewUser(name, password string) (User, error) {
	if err := checkUserName(name); err != nil {
		return User{}, err
	}
	prepared, err := prepare(password)
	if err != nil {
		return User{}, err
	}
	u := User{Name: name, SCRAM: map[string]Verifier{}}
	for mechanism, generate := range generators {
		client, err := generate.NewClientUnprepped(name, prepared, "")
		if err != nil {
			return User{}, err
		}
		k, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(random(saltBytes)), Iters: Iterations})
		if err != nil {
			return User{}, err
		}
		u.SCRAM[mechanism] = Verifier{Iterations: Iterations, Salt: []byte(k.Salt), StoredKey: k.StoredKey, ServerKey: k.ServerKey}
	}
	u.Password = newHash(prepared)
	return u, nil
}

// FromSalted makes a verifier of a salted password, as Kafka's clients send it
// (KIP-554).
func FromSalted(mechanism string, iterations int, salt, salted []byte) (Verifier, error) {
	generate, known := generators[mechanism]
	switch {
	case !known:
		return Verifier{}, fmt.Errorf("%w: mechanism %.40q", destination.ErrUnsupported, mechanism)
	case iterations < Iterations || iterations > MaxIterations:
		return Verifier{}, fmt.Errorf("%w: %d iterations: %d to %d", destination.ErrInvalid, iterations, Iterations, MaxIterations)
	case len(salt) == 0 || len(salted) != generate().Size():
		return Verifier{}, fmt.Errorf("%w: a salt of %d bytes and a salted password of %d", destination.ErrInvalid, len(salt), len(salted))
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(generate, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := generate()
	stored.Write(mac(salted, "Client Key"))
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored.Sum(nil), ServerKey: mac(salted, "Server Key")}, nil
}

func checkUserName(name string) error {
	if name == "" || name == "*" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%w: a user's name has 1 to %d bytes of UTF-8 and no control characters, and is not *", destination.ErrInvalid, maxName)
	}
	return nil
}

// prepare is what is hashed of a password: RFC 4013.
func prepare(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("%w: a password has 1 to %d bytes", destination.ErrInvalid, maxPassword)
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil {
		return "", fmt.Errorf("%w: a password with characters that SASLprep prohibits", destination.ErrInvalid)
	}
	return prepared, nil
}

func newHash(prepared string) *Hash {
	h := &Hash{Passes: passes, MemoryKiB: memoryKiB, Lanes: lanes, Salt: random(saltBytes)}
	h.Hash = h.of(prepared)
	return h
}

func (h *Hash) of(prepared string) []byte {
	return argon2.IDKey([]byte(prepared), h.Salt, h.Passes, h.MemoryKiB, h.Lanes, hashBytes)
}

func (h *Hash) matches(prepared string) bool {
	return subtle.ConstantTimeCompare(h.of(prepared), h.Hash) == 1
}

// invented is a verifier for somebody who is not there: the same at each question, and
// one that no password matches.
func invented(secret []byte, mechanism, name string) Verifier {
	part := func(what string, n int) []byte {
		var b []byte
		for i := byte(0); len(b) < n; i++ {
			m := hmac.New(sha256.New, secret)
			fmt.Fprintf(m, "%s\x00%s\x00%s\x00%d", what, mechanism, name, i)
			b = m.Sum(b)
		}
		return b[:n]
	}
	size := generators[mechanism]().Size()
	return Verifier{Iterations: Iterations, Salt: part("salt", saltBytes), StoredKey: part("stored", size), ServerKey: part("server", size)}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it does not fail
	return b
}
