package broker

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/polylog-mq/polylog/destination"
	"github.com/polylog-mq/polylog/destination/record"
)

// MaxNameBytes bounds the name of a destination. The dead letter destination
// of one with a name that long may be longer by its prefix.
const MaxNameBytes = 1024

// Names that the broker gives. Applications cannot create such a name, so a
// name says what it is.
const (
	internalPrefix       = "__"
	temporaryQueuePrefix = "temp-queue/"
	temporaryTopicPrefix = "temp-topic/"
)

// checkName says whether an application may create a destination of that name.
// Any string will do, but for patterns and the few that are ours: Jakarta Messaging 3.1
// §6.7.3 leaves the syntax to the provider.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: a destination needs a name", destination.ErrInvalid)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("%w: a destination's name may have %d bytes", destination.ErrTooLarge, MaxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: a destination's name must be UTF-8", destination.ErrInvalid)
	case isInternal(name):
		return fmt.Errorf("%w: names that begin with %s are the broker's own", destination.ErrInvalid, internalPrefix)
	case destination.IsPattern(name):
		return fmt.Errorf("%w: %q is a pattern; a destination's name has no comma, and no level that is * or >", destination.ErrInvalid, name)
	case isVirtual(name):
		return fmt.Errorf("%w: %q is what a group takes from a virtual topic, and is made by its first consumer", destination.ErrInvalid, name)
	case isTemporary(name):
		return fmt.Errorf("%w: a temporary destination is not created by name", destination.ErrInvalid)
	}
	return nil
}

func isVirtual(name string) bool {
	_, ok := destination.CutVirtual(name)
	return ok
}

func isInternal(name string) bool { return strings.HasPrefix(name, internalPrefix) }

func isTemporary(name string) bool {
	return strings.HasPrefix(name, temporaryQueuePrefix) || strings.HasPrefix(name, temporaryTopicPrefix)
}

// directory is where a partition's files are, below the directory of the logs.
func directory(name string, partition int) string {
	return record.EscapeName(name) + "-" + strconv.Itoa(partition)
}

// isTemporaryDirectory recognises what temporary destinations of an earlier
// start have left.
func isTemporaryDirectory(dir string) bool {
	return strings.HasPrefix(dir, record.EscapeName(temporaryQueuePrefix)) ||
		strings.HasPrefix(dir, record.EscapeName(temporaryTopicPrefix))
}

// checkDeadLetterName permits the prefix on top of the longest name.
func checkDeadLetterName(name string) error {
	if rest, ok := strings.CutPrefix(name, destination.DeadLetterPrefix); ok && rest != "" {
		name = rest
	}
	return checkName(name)
}
