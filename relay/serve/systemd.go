package serve

import (
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// beatEvery is how often the relay feels its own pulse, and feeds the watchdog when there is one.
func beatEvery() time.Duration {
	if every, err := daemon.SdWatchdogEnabled(false); err == nil && every > 0 {
		return every / 3
	}
	return 10 * time.Second
}

// notify tells systemd, if that has started us. A systemd that does not read is not waited for: go-systemd's SdNotify has no
// limit.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(notifyTime))
	_, _ = conn.Write([]byte(state))
}

const notifyTime = time.Second
