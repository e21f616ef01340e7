// Package reach is how commands ask the relay that runs with a configuration: at its control socket, which lets in whoever
// may open it, or at its admin listener, with the token of the configuration.
package reach

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
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/sign"
)

// Relay is one that may be running. It is safe for concurrent use.
type Relay struct {
	At     string // where it is asked, as the configuration has it
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

// ErrAbsent: nobody answers there.
var ErrAbsent = errors.New("no relay answers there")

// ControlFile is the name of the control socket in the runtime directory that systemd makes for the service.
const ControlFile = "control.sock"

// runtimeDirectory is where the installed service has it.
const runtimeDirectory = "/run/realtorbot-relay"

// Find returns the relay that runs with the file of cfg, which it asks for up to askTime: at its control socket, when there is one
// that this user may open, else at admin.listen.
func Find(ctx context.Context, cfg *config.Config) *Relay {
	if control := Control(); control != nil && control.follows(ctx, cfg.Path) {
		return control
	}
	network, address := "tcp", reachable(cfg.Admin.Listen)
	if path, ok := strings.CutPrefix(cfg.Admin.Listen, "unix:"); ok {
		network, address = "unix", path
	}
	r := newRelay(cfg.Admin.Listen, network, address, cfg.Admin.Token)
	if cfg.Admin.TLSCert != "" {
		r.scheme = "https"
		// Its certificate is for the name that others know it by. Here it is known by being the one of the file.
		r.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, VerifyConnection: shownFrom(cfg.Admin.TLSCert),
		}
	}
	return r
}

// Control is the relay behind the control socket of the service, or of the service that runs this command; nil when there
// is none that this user may open.
func Control() *Relay {
	directory := runtimeDirectory
	if own := OwnControl(); own != "" {
		directory = filepath.Dir(own)
	}
	path := filepath.Join(directory, ControlFile)
	conn, err := net.DialTimeout("unix", path, askTime)
	if err != nil {
		return nil
	}
	_ = conn.Close()
	return newRelay("unix:"+path, "unix", path, sign.Secret{})
}

// OwnControl is the path of the control socket of the service that this process is part of, "" outside of one that has a
// runtime directory.
func OwnControl() string {
	directory, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if directory == "" {
		return ""
	}
	return filepath.Join(directory, ControlFile)
}

func newRelay(at, network, address string, token sign.Secret) *Relay {
	return &Relay{At: at, scheme: "http", token: token, client: &http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			DisableKeepAlives: true,
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

// follows reports whether the relay's configuration is that file.
func (r *Relay) follows(ctx context.Context, path string) bool {
	var said struct{ File string }
	return r.Ask(ctx, "GET", "/config", nil, &said) == nil && IsSameFile(said.File, path)
}

// IsSameFile reports whether two paths lead to one file that is there.
func IsSameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
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

// Refused is an answer that says no.
type Refused struct {
	Status  int
	Message string
	Faults  config.Faults // of the configuration file, when that is why
}

// Error is one line.
func (r *Refused) Error() string { return fmt.Sprintf("it answered %d: %s", r.Status, r.Message) }

// Ask makes a request, with v as JSON when it is not nil, and reads the answer into answer, within askTime. Errors are ErrAbsent,
// *Refused, or a reason in one line.
func (r *Relay) Ask(ctx context.Context, method, path string, v, answer any) error {
	var body io.Reader
	if v != nil {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		body = strings.NewReader(string(text))
	}
	response, err := r.request(ctx, r.client, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return errors.New("its answer broke off")
	}
	if response.StatusCode/100 != 2 {
		return newRefused(response.StatusCode, text)
	}
	if raw, ok := answer.(*[]byte); ok {
		*raw = text
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("it does not answer as a relay does")
	}
	return nil
}

// request makes a request whose answer's body is the caller's to close.
func (r *Relay) request(ctx context.Context, client *http.Client, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.scheme+"://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	if !r.token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+r.token.Reveal())
	}
	response, err := client.Do(request)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, errors.New("it does not answer as a relay does")
	}
	return response, nil
}

// silence is how long the relay may write nothing of an answer that goes on.
const silence = time.Minute

// Copy asks for something of any length and copies the answer to w as it comes, unless nothing comes for as long as silence says.
// Errors are ErrAbsent, *Refused, that of w, or a reason in one line.
func (r *Relay) Copy(ctx context.Context, path string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	client := *r.client
	client.Timeout = 0 // it is the pieces that may not take long
	response, err := r.request(ctx, &client, "GET", path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, answerLimit))
		return newRefused(response.StatusCode, text)
	}
	buf := make([]byte, 64<<10)
	for {
		quiet.Reset(silence)
		n, err := response.Body.Read(buf)
		quiet.Stop() // w may take its time
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errors.New("its answer broke off")
		}
	}
}

func newRefused(status int, body []byte) error {
	var said struct {
		Error struct {
			Message string
			Faults  []struct {
				File         string
				Line         int
				Key, Message string
			}
		}
	}
	if json.Unmarshal(body, &said) != nil || said.Error.Message == "" {
		return &Refused{Status: status, Message: http.StatusText(status)}
	}
	r := &Refused{Status: status, Message: Plain(said.Error.Message)}
	for _, f := range said.Error.Faults {
		r.Faults = append(r.Faults, config.Fault{File: Plain(f.File), Line: f.Line, Key: Plain(f.Key), Text: Plain(f.Message)})
	}
	return r
}

// Plain is text of a relay, which somebody may have taken over, as it may be printed on the terminal of whoever runs a
// command, perhaps as root: nothing in it steers the terminal, and it has no line but the newlines it comes with.
func Plain(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) || c == '\n' {
			return c
		}
		return '\ufffd'
	}, text)
}
