package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFiles are what a listener's TLS is made of, in PEM.
type TLSFiles struct {
	Certificate, Key string
	// ClientCA signs the certificates of clients, which may then prove by one who they
	// are. Empty: none is asked for.
	ClientCA string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Load reads the files, and returns a configuration that reads them again when they have
// changed: a connection that comes a second later has the new ones. Files that cannot be
// read then leave what was there.
func (f TLSFiles) Load() (*tls.Config, error) {
	if f.Now == nil {
		f.Now = time.Now
	}
	k := &keeper{files: f}
	c, err := k.read()
	if err != nil {
		return nil, err
	}
	k.config, k.looked, k.stamp = c, f.Now(), k.stamps()
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current(), nil },
	}, nil
}

// keeper is the configuration of some files as they are.
type keeper struct {
	files TLSFiles

	mu     sync.Mutex // guards what follows; held over looking at the files
	config *tls.Config
	looked time.Time
	stamp  [3]stamp
}

// stamp is what changes with a file.
type stamp struct {
	size int64
	at   time.Time
}

func (k *keeper) stamps() (all [3]stamp) {
	for i, name := range [...]string{k.files.Certificate, k.files.Key, k.files.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return all
}

// lookEvery is how often the files are looked at, at the most.
const lookEvery = time.Second

func (k *keeper) current() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.files.Now()
	if now.Sub(k.looked) < lookEvery {
		return k.config
	}
	k.looked = now
	if stamp := k.stamps(); stamp != k.stamp {
		if c, err := k.read(); err == nil {
			k.config, k.stamp = c, stamp
		}
	}
	return k.config
}

func (k *keeper) read() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(k.files.Certificate, k.files.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if k.files.ClientCA == "" {
		return c, nil
	}
	text, err := os.ReadFile(k.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("TLS client authority: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("TLS client authority: no certificate in " + k.files.ClientCA)
	}
	return c, nil
}
