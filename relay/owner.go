package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"realtorbot-relay/relay/ownership"
)

// ofOwner says of an error of opening the queue that its directory is somebody else's, when that is why.
func (r *Relay) ofOwner(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	me := os.Geteuid()
	f, found := ownership.Find(r.dir, me)
	if !found {
		return err
	}
	return fmt.Errorf("queue.dir: %q belongs to %s, and this relay runs as %s: chown -R %d %q, or run it as that user: %w",
		f.Path, f.Owner, ownership.Name(me), me, r.dir, err)
}

// warnOfOwner warns when root serves a queue that is another user's: what it makes there that user can't use later.
func (r *Relay) warnOfOwner() {
	uid, ok := ownership.Of(r.dir)
	if me := os.Geteuid(); ok && me == 0 && uid != me {
		r.log.Warn().Str("dir", r.dir).Msg("queue.dir belongs to " + ownership.Name(uid) + ", and this relay runs as root: what it makes there that user can't use; start it with systemctl, or as that user")
	}
}
