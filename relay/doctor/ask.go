package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// admin is the admin listener of a relay that may be running.
type admin struct {
	listen string // as the configuration has it
	scheme string
	token  sign.Secret
	client *http.Client
}

const (
	// askTime is how long the relay has for one answer.
	askTime = 10 * time.Second
	// answerLimit bounds an answer in bytes: some thousand endpoints.
	answerLimit = 16 << 20
)

// errAbsent: nobody answers at admin.listen.
var errAbsent = errors.New("no relay answers there")

// newAdmin makes the client for the admin listener that cfg names.
func newAdmin(cfg config.Admin) *admin {
	network, address := "tcp", reachable(cfg.Listen)
	if path, ok := strings.CutPrefix(cfg.Listen, "unix:"); ok {
		network, address = "unix", path
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	return &admin{listen: cfg.Listen, scheme: scheme, token: cfg.Token, client: &http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			DisableKeepAlives: true,
			// Its certificate is for the name that others know it by. Here it is known by being the one of the file.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, VerifyConnection: shownFrom(cfg.TLSCert)},
		},
	}}
}

// shownFrom accepts the certificate that stands first in a PEM file, and no other.
func shownFrom(path string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if block, _ := pem.Decode(text); block == nil || len(state.PeerCertificates) == 0 || !bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
			return errors.New("another certificate is shown than that of admin.tls_cert")
		}
		return nil
	}
}

// reachable is an address that this machine can connect to, for one that may mean all of its addresses.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	switch {
	case err != nil:
		return listen
	case host == "" || host == "0.0.0.0":
		return net.JoinHostPort("127.0.0.1", port)
	case host == "::":
		return net.JoinHostPort("::1", port)
	}
	return listen
}

// refused is an answer that is none of those with 200.
type refused struct {
	status  int
	message string
	faults  []string
}

func (r *refused) Error() string { return fmt.Sprintf("it answered %d: %s", r.status, r.message) }

// ask makes a request and reads the answer into v. Errors are errAbsent, *refused, or a reason in one line.
func (a *admin) ask(ctx context.Context, method, path string, v any) error {
	request, err := http.NewRequestWithContext(ctx, method, a.scheme+"://localhost"+path, nil)
	if err != nil {
		return err
	}
	if !a.token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	}
	response, err := a.client.Do(request)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return errAbsent
	}
	if err != nil {
		return errors.New("it does not answer as a relay does")
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return errors.New("its answer broke off")
	}
	if response.StatusCode != http.StatusOK {
		return newRefused(response.StatusCode, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return errors.New("it does not answer as a relay does")
	}
	return nil
}

func newRefused(status int, body []byte) error {
	var said struct {
		Error struct {
			Message string
			Faults  []struct {
				Line      int
				Key, Text string
			}
		}
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		return &refused{status: status, message: http.StatusText(status)}
	}
	r := &refused{status: status, message: said.Error.Message}
	for _, f := range said.Error.Faults {
		r.faults = append(r.faults, config.Fault{File: "running", Line: f.Line, Key: f.Key, Text: f.Text}.String())
	}
	return r
}
