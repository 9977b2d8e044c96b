// Package compose stands in for the library with which confluent-kafka-go's
// tests start Docker, which needs hundreds of modules. The tests never call it
// when they are told of a broker.
package compose

import "errors"

// LocalDockerCompose would be containers.
type LocalDockerCompose struct{}

// ExecError is what became of a command.
type ExecError struct{ Error error }

// NewLocalDockerCompose describes containers that Invoke refuses to start.
func NewLocalDockerCompose([]string, string) *LocalDockerCompose { return &LocalDockerCompose{} }

// WithCommand has nothing to remember.
func (c *LocalDockerCompose) WithCommand([]string) *LocalDockerCompose { return c }

// Invoke fails.
func (c *LocalDockerCompose) Invoke() ExecError {
	return ExecError{errors.New("there is no Docker here: testconf.json names the broker")}
}

// Down has nothing to end.
func (c *LocalDockerCompose) Down() ExecError { return ExecError{} }
