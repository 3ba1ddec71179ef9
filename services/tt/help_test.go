package main

import (
	"flag"
	"regexp"
	"strings"
	"testing"
)

// Every flag is explained, and completed; what is explained exists.
func TestHelpNamesEveryFlag(t *testing.T) {
	o := &options{tags: tags{}}
	known := map[string]bool{}
	for _, name := range flagNames(o) {
		known[name] = true
		dashed := "--" + name
		if len(name) == 1 {
			dashed = "-" + name
		}
		if name != "debug" && !regexp.MustCompile(`(?m)[ (]`+dashed+`\b`).MatchString(helpText) {
			t.Errorf("help does not explain %s", dashed)
		}
		if !strings.Contains(bashCompletion, dashed+" ") {
			t.Errorf("bash does not complete %s", dashed)
		}
		fish := " -l " + name + " "
		if len(name) == 1 {
			fish = " -s " + name + " "
		}
		if !strings.Contains(fishCompletion, fish) {
			t.Errorf("fish does not complete %s", dashed)
		}
	}
	for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(helpText, -1) {
		viewing := map[string]bool{"tail": true, "since": true, "json": true, "exit-code": true, "run": true, "lines": true, "streams": true, "strip": true}
		if !known[m[1]] && !viewing[m[1]] {
			t.Errorf("help explains --%s, which does not exist", m[1])
		}
	}
}

func flagNames(o *options) (names []string) {
	fs := newFlagSet("tt")
	o.register(fs)
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}
