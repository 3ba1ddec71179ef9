package main

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// patient is the file as it is: nobody changes how it blocks.
type patient struct{ f *os.File }

func (p patient) Read(b []byte) (int, error)  { return p.f.Read(b) }
func (p patient) Write(b []byte) (int, error) { return p.f.Write(b) }

// broken tells that an error of writing says that nobody reads any more.
func broken(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}
