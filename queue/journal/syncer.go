package journal

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncer makes files durable without blocking a thread. During a blocking fdatasync the runtime's monitor takes the
// goroutine's processor away, and polls every 20 µs for that while syncs go on; afterwards the goroutine has to find
// another processor. On two processors that cost a fifth of the events a second at 64 connections. So the kernel is asked
// for the sync (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18) and writes to an eventfd when it is done; the goroutine waits on
// that as on a socket.
//
// Where the kernel or a sandbox does not have or allow this, fdatasync is called from then on. One goroutine uses a syncer.
type syncer struct {
	queue     uintptr // the kernel's aio_context_t; 0: there is none, and fdatasync is called
	event     *os.File
	eventConn syscall.RawConn // of event

	request   *iocb // the one request at a time
	submitted bool
	refused   bool
	err       error
}

// iocb is struct iocb of linux/aio_abi.h, on 64 bits; fields without a name stay 0.
type iocb struct {
	_      [16]byte // data, key, flags of the read or write
	opcode uint16
	_      [2]byte // priority
	fd     uint32
	_      [32]byte // buffer, its length, offset, reserved
	flags  uint32
	event  uint32
}

// ioEvent is struct io_event of linux/aio_abi.h.
type ioEvent struct {
	_      [16]byte // data, the request's address
	result int64    // 0, or a negative error number
	_      [8]byte
}

const (
	ioFdatasync = 3 // IOCB_CMD_FDSYNC
	ioNotify    = 1 // IOCB_FLAG_RESFD
)

func newSyncer() *syncer {
	s := &syncer{request: new(iocb)}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return s
	}
	s.event = os.NewFile(uintptr(fd), "eventfd")
	if s.eventConn, err = s.event.SyscallConn(); err != nil {
		return s
	}
	s.request.event = uint32(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.queue)), 0); errno != 0 {
		s.queue = 0
	}
	return s
}

// sync puts what was written to f on stable storage, and waits for that. After an error nobody knows what is there.
func (s *syncer) sync(f *os.File) error {
	if s.queue == 0 {
		return fdatasync(f)
	}
	s.request.opcode, s.request.fd, s.request.flags = ioFdatasync, uint32(f.Fd()), ioNotify
	s.submitted, s.refused, s.err = false, false, nil
	err := s.eventConn.Read(s.step)
	runtime.KeepAlive(f)
	if s.refused {
		s.close()
		return fdatasync(f)
	}
	if err != nil {
		return fmt.Errorf("wait for the sync: %w", err)
	}
	return s.err
}

// step submits the request at the first call, and looks for its end when the eventfd was written; true ends the wait. The
// poller is listening already at the first call, so no write is missed. The eventfd is never read: the poller wakes at each
// write.
func (s *syncer) step(uintptr) (over bool) {
	if !s.submitted {
		n, _, _ := unix.Syscall(unix.SYS_IO_SUBMIT, s.queue, 1, uintptr(unsafe.Pointer(&s.request)))
		s.submitted = n == 1
		s.refused = !s.submitted
		return s.refused
	}
	var done ioEvent
	for {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.queue, 0, 1, uintptr(unsafe.Pointer(&done)), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			s.err = fmt.Errorf("wait for the sync: %w", errno)
			return true
		case n == 0:
			return false
		}
		if done.result < 0 {
			s.err = syscall.Errno(-done.result)
		}
		return true
	}
}

// close waits for the request under way. A closed syncer calls fdatasync.
func (s *syncer) close() {
	if s.queue != 0 {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, s.queue, 0, 0)
		s.queue = 0
	}
	if s.event != nil {
		_ = s.event.Close()
		s.event = nil
	}
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}
