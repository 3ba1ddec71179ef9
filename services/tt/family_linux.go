package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// family is a process and those of its descendants that are in its process group: what a signal to the group would reach of it, where others are in that group, too.
func family(pid int) []int {
	type process struct{ parent, group int }
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// The name in parentheses may hold anything; behind it are the state, the parent and the group.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(fields) < 3 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		group, _ := strconv.Atoi(fields[2])
		all[id] = process{parent, group}
	}
	members := []int{pid}
	for i := 0; i < len(members); i++ {
		for id, p := range all {
			if p.parent == members[i] && p.group == all[pid].group {
				members = append(members, id)
			}
		}
	}
	return members
}
