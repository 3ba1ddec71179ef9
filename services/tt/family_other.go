//go:build unix && !linux

package main

// family is the process alone: there is no way to ask for its descendants that needs no C.
func family(pid int) []int { return []int{pid} }
