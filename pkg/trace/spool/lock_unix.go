//go:build unix

package spool

import (
	"errors"
	"os"
	"syscall"
)

// lockDir takes the lock of a spool directory; ErrBusy where another process has it. The lock goes when the file is closed or the process dies.
func lockDir(dir string, create bool) (*os.File, error) {
	f, err := openLock(dir, create)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, err
	}
	return f, nil
}
