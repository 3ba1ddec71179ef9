package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockDir takes the lock of a spool directory; ErrBusy where another process has it. The lock goes when the file is closed or the process dies.
func lockDir(dir string, create bool) (*os.File, error) {
	f, err := openLock(dir, create)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if err != nil {
		f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, ErrBusy
		}
		return nil, err
	}
	return f, nil
}
