package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
)

var errPlain = errors.New("not a response of SASL PLAIN")

// ParsePlain takes a response of SASL's PLAIN apart: RFC 4616. To act as somebody else
// is refused.
func ParsePlain(response []byte) (user, password string, err error) {
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 || len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return "", "", errPlain
	}
	return string(parts[1]), string(parts[2]), nil
}

// CertifiedName is the common name of the certificate by which a peer has proved who it is;
// empty if it has not. A connection's handshake must be over.
func CertifiedName(conn net.Conn) string {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	if chains := c.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0].Subject.CommonName
	}
	return ""
}
