package demo

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"strings"
)

// broker is the polylog that the story runs on, as a child process.
type broker struct {
	program, dir string
	address, url string // the same at every start
	cmd          *exec.Cmd
	errors       bytes.Buffer
}

// start starts it and returns when it is ready.
func (b *broker) start() error {
	if b.address == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		b.address = l.Addr().String()
		b.url = "polylog://" + b.address
		l.Close()
	}
	b.cmd = exec.Command(b.program, "serve", "--data", b.dir, "--native-listen", b.address, "--kafka-listen", "", "--amqp-listen", "", "--stomp-listen", "", "--http-listen", "")
	b.cmd.Stderr = &b.errors
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "ready") {
			return nil
		}
	}
	b.cmd.Wait() // it has ended; why, it has said on its standard error
	return fmt.Errorf("the broker did not start:\n%s", b.errors.String())
}

// kill ends it as kill -9 does.
func (b *broker) kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait() // reports the kill
}
