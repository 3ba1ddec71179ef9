package main

import "os"

// patient is the file as it is: nobody changes how it blocks.
type patient struct{ f *os.File }

func (p patient) Read(b []byte) (int, error)  { return p.f.Read(b) }
func (p patient) Write(b []byte) (int, error) { return p.f.Write(b) }
