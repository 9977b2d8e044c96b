package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/polylog-mq/polylog/broker/metadata"
	"github.com/polylog-mq/polylog/destination/commitlog"
)

// errDirectoryInUse says that a broker has the data directory open.
var errDirectoryInUse = errors.New("a broker is running on it; stop the broker first")

// adviceInUse says what to do about a data directory or an address that
// somebody else has; "" for other errors.
func adviceInUse(err error, c configuration) string {
	if errors.Is(err, metadata.ErrLocked) || errors.Is(err, commitlog.ErrLocked) {
		data := c.text("serve.data")
		return fmt.Sprintf("%s is open in %s. Stop that, or give another directory with --data DIR.",
			data, holderOf(filepath.Join(data, "metadata.db"), filepath.Join(data, "log", "lock")))
	}
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "listen" || !errors.Is(err, syscall.EADDRINUSE) {
		return ""
	}
	flags := flagsThatListen(c, e.Addr)
	if flags == "" {
		return ""
	}
	return fmt.Sprintf("Another program listens there, perhaps another broker. Stop it, or give another address with %s HOST:PORT; port 0 takes any free one.", flags)
}

// flagsThatListen names the flags whose value has the port of address.
func flagsThatListen(c configuration, address net.Addr) string {
	if address == nil {
		return ""
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return ""
	}
	var flags []string
	for _, s := range settings {
		if !strings.HasSuffix(s.name, "-listen") {
			continue
		}
		for one := range strings.SplitSeq(c.text(s.key()), ",") {
			one, _, _ = strings.Cut(one, "=") // what clients are told is no matter
			if _, p, err := net.SplitHostPort(strings.TrimSpace(one)); err == nil && p == port {
				flags = append(flags, "--"+s.name)
				break
			}
		}
	}
	return strings.Join(flags, " or ")
}

// holderOf names the process that has a lock on the first of the files that
// has one, as far as the system tells.
func holderOf(files ...string) string {
	for _, file := range files {
		pid := lockHolder(file)
		if pid <= 0 {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
	}
	return "another process"
}
