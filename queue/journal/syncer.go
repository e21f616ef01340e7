package journal

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncer makes files durable without keeping a thread waiting. In a blocking fdatasync the goroutine's processor is taken
// away by the runtime's monitor, which for that polls every 20 µs as long as syncs go on, and afterwards the goroutine has
// to find another: on two processors that cost a fifth of the events a second at 64 connections. So the kernel is told
// to sync (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18) and to ring an eventfd, on which the goroutine waits as on a socket.
//
// Where the kernel or a sandbox has no such call, or it is refused, fdatasync is called instead, from then on. One
// goroutine uses a syncer.
type syncer struct {
	queue     uintptr // the kernel's aio_context_t; 0: none, fdatasync is called
	event     *os.File
	eventConn syscall.RawConn // of bell

	request   *iocb // the one request there is at a time
	submitted bool
	refused   bool
	err       error
}

// iocb is struct iocb of linux/aio_abi.h, on 64 bits; what has no name here stays 0.
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
	_      [16]byte // data, the order's address
	result int64    // 0, or an error number below it
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

// sync puts what was written to f on stable storage. After an error nobody knows what is there.
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

// step submits the order when it is called first, and after that looks for its end whenever the bell was rung; true ends the
// wait. It is called first when the poller is listening already, so that no ring can be missed. The bell is never read:
// the poller wakes at each ring.
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

// close waits for what is under way. A syncer that was closed calls fdatasync.
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
