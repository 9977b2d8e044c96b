package kafka

// shareHandlers are the requests of share groups.
var shareHandlers = map[int16]handler{}

// shareSession is what a connection knows of its share sessions.
type shareSession struct{}

// close ends what the connection has open.
func (*shareSession) close() {}

func (c *connection) closeShares() { c.shares.close() }
