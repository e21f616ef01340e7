package directory

import (
	"os"

	"golang.org/x/sys/unix"
)

// WriteInPlace has the files that are made in a directory from now on written where their blocks are. Btrfs would else look
// for new ones at each write, and a block that was reserved or written beforehand would be no promise. Other file systems
// have no need of it.
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
