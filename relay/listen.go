package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"realtorbot-relay/relay/answer"
	"realtorbot-relay/relay/config"
)

// Listen opens a listener for an address of the configuration: host:port, IPv4 and IPv6, or unix:/path. Errors are one
// line that names the setting.
func Listen(setting, address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		ln, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s %q: the port is taken: is another relay running? (ss -ltnp shows who has it)", setting, address)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", setting, address, err)
		}
		return ln, nil
	}
	return listenUnix(setting, path)
}

// listenUnix opens a unix socket for the relay's user and group. One that a process left behind which was killed is
// replaced.
func listenUnix(setting, path string) (net.Listener, error) {
	address := "unix:" + path
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		// A socket that nobody answers was left behind by a process that was killed.
		if conn, dialErr := net.Dial("unix", path); dialErr == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("%s %q: the socket is taken: is another relay running?", setting, address)
		}
		if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&fs.ModeSocket != 0 {
			if err = os.Remove(path); err == nil {
				ln, err = net.Listen("unix", path)
			}
		}
	}
	if err == nil {
		err = os.Chmod(path, 0o660)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", setting, address, err)
	}
	return ln, nil
}

// descriptors is how many files and connections this process may have open.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}

// shares are the connections at the intake and at the admin listener. Where descriptors are few, so are they: half of them
// and a sixteenth, since the queue and the deliveries need theirs, and a queue that can't open a file is a queue that failed.
//
// A flood of connections that ask nothing holds the places of a second, then they are given to others: at this pace those of
// sixteen addresses leave some.
func shares(descriptors uint64) (intake, adm answer.Share) {
	intake.All, adm.All = intakeConnections, adminConnections
	if descriptors < 2*intakeConnections {
		intake.All, adm.All = max(int(descriptors)/2, 16), max(int(descriptors)/16, 16)
	}
	intake.PerAddress, adm.PerAddress = max(intake.All/4, 8), max(adm.All/4, 8)
	intake.PerSecond, adm.PerSecond = max(intake.All/32, 8), max(adm.All/32, 8)
	return intake, adm
}

// ErrOpen: others could post without a credential.
var ErrOpen = errors.New("set its token or its secret")

// CheckSources refuses a listener of the intake that others can reach while a source asks for no credential. The
// configuration judges its own server.listen; a passed socket or a reload may differ from that. A certificate that every
// client needs is a credential.
func CheckSources(at net.Addr, s config.Server, sources []config.Source) error {
	address := spell(at)
	for i := range sources {
		if at.Network() == "unix" && len(sources[i].Allow) > 0 {
			return fmt.Errorf("the intake listens on %s, whose clients have no address, and source %q has allow: leave it out", address, sources[i].Name)
		}
	}
	if config.IsLoopback(address) || s.ClientCA != "" {
		return nil
	}
	for i := range sources {
		if sources[i].Token.IsZero() && sources[i].Secret.IsZero() {
			return fmt.Errorf("the intake listens on %s, which others can reach, and source %q has neither token nor secret: %w",
				address, sources[i].Name, ErrOpen)
		}
	}
	return nil
}

// spell writes an address as the configuration does.
func spell(at net.Addr) string {
	if at.Network() == "unix" {
		return "unix:" + at.String()
	}
	return at.String()
}

// expose works out which tokens and secrets of a configuration may be guessed, by the listeners that there are.
func (r *Relay) expose(cfg *config.Config) {
	intake := make([]string, len(r.addresses))
	for i, at := range r.addresses {
		intake[i] = spell(at)
	}
	running := *cfg
	running.Admin = r.config.Admin
	lines := running.Exposed(intake, spell(r.adminAddress))
	r.exposed.Store(&lines)
}
