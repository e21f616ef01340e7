package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"realtorbot-relay/queue"
	"realtorbot-relay/relay/ownership"
)

const (
	// syncs are made to find out how fast the disk is. An answer waits for one.
	syncs = 64
	// slowSync and verySlowSync are where the middle one draws a warning, and fails.
	slowSync     = 10 * time.Millisecond
	verySlowSync = 100 * time.Millisecond
)

// dir is where the queue is. A relative one is relative to the relay's working directory, which only the relay knows.
func (p *patient) dir() string {
	if p.running != nil && p.running.Queue.Dir != "" {
		return p.running.Queue.Dir
	}
	return p.config.Queue.Dir
}

// disk looks at the file system of queue.dir: what it is, how fast it syncs, and how long its room will last.
func (p *patient) disk() []finding {
	dir := p.dir()
	if _, err := os.Stat(dir); err != nil {
		says := fmt.Sprintf("queue.dir %q: %s: the first start makes it", dir, reason(err))
		if !filepath.IsAbs(dir) {
			says = fmt.Sprintf("queue.dir %q is not in this directory: it is relative to the relay's working directory (the service's is /var/lib/realtorbot-relay); run doctor there", dir)
		}
		return []finding{{warn, "disk", says}}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return []finding{{fail, "disk", fmt.Sprintf("queue.dir %q: %s", dir, err)}}
	}
	free := int64(st.Bavail) * st.Bsize
	return []finding{fileSystem(dir, int64(st.Type)), owner(dir), speed(dir), p.room(free), p.store(dir)}
}

// owner looks for what belongs to another user than the one who serves: that of the installed service when dir is its
// state directory's, else whoever has dir itself.
func owner(dir string) finding {
	const about = "owner"
	uid, known := ownership.Of(dir)
	if absolute, err := filepath.Abs(dir); err == nil && strings.HasPrefix(absolute, stateDirectory+"/") {
		if u, err := user.Lookup(filepath.Base(stateDirectory)); err == nil {
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	if !known {
		return finding{warn, about, fmt.Sprintf("who owns %q can't be told", dir)}
	}
	if f, found := ownership.Find(dir, uid); found {
		return finding{fail, about, fmt.Sprintf("%q belongs to %s, and the relay runs as %s, who can't use it: chown -R %d %q", f.Path, f.Owner, ownership.Name(uid), uid, dir)}
	}
	return finding{ok, about, "all of it belongs to " + ownership.Name(uid)}
}

// stateDirectory is the installed service's, whose user has the same name.
const stateDirectory = "/var/lib/realtorbot-relay"

// fileSystem judges the kind of file system by its magic number.
func fileSystem(dir string, magic int64) finding {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return finding{ok, "file system", "local, of a kind that the relay is tested on"}
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return finding{fail, "file system", fmt.Sprintf("%q is in memory: a power cut loses every event; put queue.dir on a disk", dir)}
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return finding{fail, "file system", fmt.Sprintf("%q is on a network or in user space, where a sync that returns need not be on a disk: use a local one", dir)}
	case unix.OVERLAYFS_SUPER_MAGIC:
		return finding{warn, "file system", fmt.Sprintf("%q is a container's own layer, which goes with the container: use a volume", dir)}
	}
	return finding{warn, "file system", fmt.Sprintf("%q is of a kind (%#x) that the relay is not tested on: ext4, XFS and btrfs are", dir, magic)}
}

// speed syncs a small file that has no name and is gone afterwards.
func speed(dir string) finding {
	const about = "disk speed"
	took, err := measureSync(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return finding{warn, about, fmt.Sprintf("can't be measured: this user may not write to %q: run doctor as root or as the service's user", dir)}
	case err != nil:
		return finding{fail, about, fmt.Sprintf("a file in %q can't be written: %s", dir, reason(err))}
	}
	slices.Sort(took)
	middle, slowest := took[len(took)/2], took[len(took)-1]
	says := fmt.Sprintf("a sync of 4 KiB takes %s, the slowest of %d took %s", brief(middle), len(took), brief(slowest))
	switch {
	case middle > verySlowSync:
		return finding{fail, about, says + ": every answer waits for one; look for a failing disk or one that others use up (iostat -x 1)"}
	case middle > slowSync:
		return finding{warn, about, says + ": every answer waits for one; an SSD needs less than 1 ms"}
	}
	return finding{ok, about, says}
}

func measureSync(dir string) (took []time.Duration, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	file := os.NewFile(uintptr(max(fd, 0)), "")
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // a file system without files that have no name
		file, err = os.CreateTemp(dir, "doctor-*.tmp")
		if err == nil {
			defer func() { _ = os.Remove(file.Name()) }()
		}
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	block := make([]byte, 4<<10)
	for range syncs {
		began := time.Now()
		if _, err := file.WriteAt(block, 0); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// room judges the free disk by min_free, and by when it will be reached.
func (p *patient) room(free int64) finding {
	const about = "disk room"
	_, least := queue.FreeSpace(queue.Options{Dir: p.dir(), MinFree: p.config.Queue.MinFree})
	if p.running != nil {
		least = max(least, p.running.Queue.MinFree)
	}
	says := fmt.Sprintf("%d MiB are free, and below %d MiB events are refused", free>>20, least>>20)
	if p.running != nil && p.running.Queue.DiskLowIn > 0 {
		left := time.Duration(p.running.Queue.DiskLowIn) * time.Second
		says += fmt.Sprintf("; as it filled in the last hours, that is in %s", days(left))
		if left < 24*time.Hour && free >= least {
			return finding{warn, about, says + ": see \"The disk is filling\" in realtorbot-relay help runbook"}
		}
	} else if p.running != nil {
		says += "; it did not fill in the last hours, as far as the relay has looked"
	}
	switch {
	case free < least:
		return finding{fail, about, says + ": see \"The disk is filling\" in realtorbot-relay help runbook"}
	case free < least+least/4:
		return finding{warn, about, says + ": see \"The disk is filling\" in realtorbot-relay help runbook"}
	}
	return finding{ok, about, says}
}

// store says whether something on disk could not be read.
func (p *patient) store(dir string) finding {
	const about = "store"
	aside := filepath.Join(dir, "aside")
	entries, err := os.ReadDir(aside)
	if p.running != nil && p.running.Queue.Damaged > 0 {
		return finding{fail, about, fmt.Sprintf("%d things could not be read since the start: the log says which; look at the disk (dmesg, smartctl -a)", p.running.Queue.Damaged)}
	}
	switch {
	case len(entries) > 0:
		return finding{warn, about, fmt.Sprintf("damage was found before: %d copies are in %q; look at the disk (dmesg, smartctl -a), and remove them when they are not needed", len(entries), aside)}
	case errors.Is(err, fs.ErrPermission):
		return finding{warn, about, fmt.Sprintf("can't be looked at: this user may not read %q: run doctor as root or as the service's user", dir)}
	case p.running == nil:
		return finding{ok, about, "nothing was set aside; the relay itself checks the rest when it opens the queue"}
	}
	return finding{ok, about, "nothing damaged, nothing set aside"}
}

// reason is an error without the path, which is said already.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func brief(d time.Duration) time.Duration { return d.Round(max(d/100, time.Microsecond)) }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
