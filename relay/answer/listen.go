package answer

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
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

// ListenControl opens the control socket: a second admin listener, which needs no token, since only root and the relay's own user
// may connect to it. systemd's ExecReload sees none of the service's credentials and has no other way to know what became of a
// reload; root's commands have no other way to the secrets that only the service has.
func ListenControl(path string) (net.Listener, error) {
	ln, err := listenUnix("the control socket", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("the control socket %q: %w", path, err)
	}
	return ln, nil
}

// listenUnix opens a unix socket for the relay's user and group. It replaces the socket of a process that was killed.
func listenUnix(setting, path string) (net.Listener, error) {
	address := "unix:" + path
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		// A socket that nobody answers is that of a process that was killed.
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

// AddressText writes a listener's address as the configuration does.
func AddressText(at net.Addr) string {
	if at.Network() == "unix" {
		return "unix:" + at.String()
	}
	return at.String()
}

// Of these connections, one address may have a quarter: a proxy in front of the relay is one.
const (
	intakeConnections = 4096
	adminConnections  = 256

	// plainBytes and secureBytes are the memory, in bytes, that a connection keeps once a request came on it, whoever sent it: 33 and
	// 62 KiB were measured.
	plainBytes, secureBytes = 32 << 10, 64 << 10

	// ControlConnections is how many connections the control socket may have.
	ControlConnections = 32
)

// Shares returns how many connections the intake, which may be secured by TLS, and the admin listener may have, of as many files and
// connections as this process may open and as much memory as it may take, in bytes (0: nobody knows).
func Shares(memory uint64, secured bool) (intake, adm Share) {
	return shares(descriptors(), memory, secured)
}

// descriptors is how many files and connections this process may have open.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}

// shares gives the intake half of the descriptors where these are few, and the admin listener a sixteenth: the queue and the
// deliveries need theirs, and a queue that can't open a file has failed. What the intake's connections keep is at most an eighth of
// the memory.
//
// A flood of connections that ask nothing holds the places of one second, then others get them: at this pace those of sixteen
// addresses leave some.
func shares(descriptors, memory uint64, secured bool) (intake, adm Share) {
	intake.All, adm.All = intakeConnections, adminConnections
	if descriptors < 2*intakeConnections {
		intake.All, adm.All = max(int(descriptors)/2, 16), max(int(descriptors)/16, 16)
	}
	each := uint64(plainBytes)
	if secured {
		each = secureBytes
	}
	if room := memory / 8 / each; memory > 0 && room < uint64(intake.All) {
		intake.All = max(int(room), 16)
	}
	intake.PerAddress, adm.PerAddress = max(intake.All/4, 8), max(adm.All/4, 8)
	intake.PerSecond, adm.PerSecond = max(intake.All/32, 8), max(adm.All/32, 8)
	return intake, adm
}
