package relay

import (
	"fmt"
	"net"
	"os"

	"github.com/valyala/fasthttp"

	"realtorbot-relay/relay/admin"
	"realtorbot-relay/relay/answer"
)

// ListenControl opens the control socket: the admin listener once more, without a token, for those who may open the socket,
// who are root and the relay's own user. systemd's ExecReload has no other way to know what became of a reload, since it
// sees none of the service's credentials, and root's commands have none to the secrets that only the service has.
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

// ServeControl answers at the control socket until Stop, which closes it. It is called once, after Start.
func (r *Relay) ServeControl(ln net.Listener) {
	r.serve(r.controlServer, []net.Listener{ln}, answer.Share{All: controlConnections, PerAddress: controlConnections})
}

// answerControl answers one request at the control socket.
func (r *Relay) answerControl(ctx *fasthttp.RequestCtx) {
	admin.Trust(ctx)
	r.front.Load().admin(ctx)
}
