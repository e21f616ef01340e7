package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// dials is how somebody connects.
type dials interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// dialsFrom connects from 127.0.0.n, over TLS or without.
func dialsFrom(n byte, secure bool) dials {
	plain := &net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}}
	if secure {
		return &tls.Dialer{NetDialer: plain, Config: anyCertificate()}
	}
	return plain
}

// anyCertificate is for clients that do not ask who is there.
func anyCertificate() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// tcpOf is the connection below TLS, if there is some.
func tcpOf(conn net.Conn) *net.TCPConn {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return conn.(*net.TCPConn)
}

// writeCertificate puts a certificate for this machine, and its key, into a directory.
func writeCertificate(dir string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// greeting is what a client says first to a server that speaks TLS.
func greeting() (string, error) {
	client, server := net.Pipe()
	defer server.Close()
	said := make(chan error, 1)
	go func() {
		defer client.Close()
		said <- tls.Client(client, anyCertificate()).Handshake()
	}()
	record := make([]byte, 5, 5+1<<16)
	if _, err := io.ReadFull(server, record); err != nil {
		return "", fmt.Errorf("make a greeting: %w", err)
	}
	record = record[:5+int(record[3])<<8+int(record[4])]
	if _, err := io.ReadFull(server, record[5:]); err != nil {
		return "", fmt.Errorf("make a greeting: %w", err)
	}
	_ = server.Close()
	<-said // it fails, for want of an answer
	return string(record), nil
}

// keepIdle says something and then holds the connection for as long as the server lets it, again and again.
func keepIdle(ctx context.Context, addr, first string, by dials, holding *atomic.Int64) {
	for ctx.Err() == nil {
		conn, err := by.DialContext(ctx, "tcp", addr)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
		if _, err := io.WriteString(conn, first); err == nil {
			holding.Add(1)
			_, _ = io.Copy(io.Discard, conn)
			holding.Add(-1)
		}
		stop()
		abort(tcpOf(conn))
		pause(ctx, 100*time.Millisecond)
	}
}
