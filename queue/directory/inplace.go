package directory

import (
	"os"

	"golang.org/x/sys/unix"
)

// WriteInPlace has files that are made in a directory from now on written to their own blocks. Btrfs would else allocate new
// ones at each write, and a block that was reserved or written before would promise nothing. Other file systems do not need
// it.
func WriteInPlace(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.BTRFS_SUPER_MAGIC {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	const noCopyOnWrite = 0x00800000 // FS_NOCOW_FL
	return unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, int(flags|noCopyOnWrite))
}
