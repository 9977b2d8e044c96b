package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certify makes a certificate that signs itself, for a name, as files.
func certify(t *testing.T, dir, name string, serial int64) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(suffix, typ string, content []byte) string {
		file := filepath.Join(dir, name+suffix)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write(".pem", "CERTIFICATE", der), write(".key", "PRIVATE KEY", secret)
}

// meet shakes hands, and returns the server's certificate and whom it takes the client for.
func meet(t *testing.T, server, client *tls.Config) (serial int64, name string, err error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	type met struct {
		conn net.Conn
		err  error
	}
	done := make(chan met, 1)
	go func() {
		conn, err := handshake(far, server, 5*time.Second)
		if err == nil {
			_, err = conn.Write([]byte{1}) // so that the client learns of a refusal
		}
		done <- met{conn, err}
	}()
	c := tls.Client(near, client)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err = c.Read(make([]byte, 1)); err != nil {
		near.Close()
		<-done
		return 0, "", err
	}
	m := <-done
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), CertifiedName(m.conn), m.err
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	certificate, key := certify(t, dir, "broker", 1)
	authority, clientKey := certify(t, dir, "ann", 7)
	_, _ = certify(t, dir, "eve", 8)
	now := time.Now()
	server, err := TLSFiles{Certificate: certificate, Key: key, ClientCA: authority, Now: func() time.Time { return now }}.Load()
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{InsecureSkipVerify: true} // what it is, the serial number says
	if serial, name, err := meet(t, server, client); err != nil || serial != 1 || name != "" {
		t.Errorf("%d, %q, %v", serial, name, err)
	}
	of := func(certificate, key string) *tls.Config {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	}
	if _, name, err := meet(t, server, of(authority, clientKey)); err != nil || name != "ann" {
		t.Errorf("%q, %v", name, err)
	}
	if _, name, err := meet(t, server, of(filepath.Join(dir, "eve.pem"), filepath.Join(dir, "eve.key"))); err == nil {
		t.Errorf("a certificate of nobody's is taken for %q", name)
	}
	// New files hold from the next second on; what cannot be read changes nothing.
	certify(t, dir, "broker", 2)
	if serial, _, err := meet(t, server, client); err != nil || serial != 1 {
		t.Errorf("%d, %v", serial, err)
	}
	now = now.Add(lookEvery)
	if serial, _, err := meet(t, server, client); err != nil || serial != 2 {
		t.Errorf("%d, %v", serial, err)
	}
	if err := os.WriteFile(certificate, bytes.Repeat([]byte("x"), 10), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(lookEvery)
	if serial, _, err := meet(t, server, client); err != nil || serial != 2 {
		t.Errorf("%d, %v", serial, err)
	}
	if _, err := (TLSFiles{Certificate: certificate, Key: key}).Load(); err == nil {
		t.Error("what is no certificate is taken")
	}
	if _, err := (TLSFiles{Certificate: authority, Key: clientKey, ClientCA: key}).Load(); err == nil {
		t.Error("what is no authority is taken")
	}
}
