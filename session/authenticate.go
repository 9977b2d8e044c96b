package session

// Authenticate says who user is, if password is theirs. Its errors are for the broker's
// log; a peer learns only that it failed.
type Authenticate = func(user, password string) (principal string, err error)

// BeginSCRAM begins an exchange by a mechanism of RFC 5802: ErrUnsupported. step takes the
// client's next message and returns the answer; with done the client has proved to be
// principal, and the answer is the last.
type BeginSCRAM = func(mechanism string) (step func(message []byte) (answer []byte, principal string, done bool, err error), err error)

// SCRAMMechanisms are those that BeginSCRAM may know, the stronger first.
var SCRAMMechanisms = []string{"SCRAM-SHA-512", "SCRAM-SHA-256"}
