package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gopkg.in/ini.v1"

	"tasktracer/pkg/trace"
)

// configFiles are read in this order; what an earlier one says holds.
func configFiles(getenv func(string) string) []string {
	var files []string
	if home := home(getenv); home != "" {
		files = append(files, filepath.Join(home, ".tt.conf"))
	}
	if runtime.GOOS == "windows" {
		if dir := getenv("ProgramData"); dir != "" {
			files = append(files, filepath.Join(dir, "tt.conf"))
		}
		return files
	}
	return append(files, "/etc/tt.conf")
}

func home(getenv func(string) string) string {
	if runtime.GOOS == "windows" {
		return getenv("USERPROFILE")
	}
	return getenv("HOME")
}

// complete fills in what flags and environment have left open.
func (o *options) complete(getenv func(string) string) error {
	files := configFiles(getenv)
	if o.config != "" {
		files = []string{o.config}
	}
	for _, file := range files {
		if err := o.readConfig(file); err != nil {
			if errors.Is(err, fs.ErrNotExist) && o.config == "" {
				continue
			}
			return &usageError{err}
		}
	}
	if o.id == "" {
		o.id, _ = os.Hostname() // an empty id is allowed
	}
	return nil
}

func (o *options) readConfig(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrPermission) && o.config == "" {
		return nil // a system's file that is not for this user
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	f, err := ini.LoadSources(ini.LoadOptions{IgnoreInlineComment: true}, text)
	if err != nil {
		return fmt.Errorf("configuration %s: %s (it holds lines like `token = …`)", file, strings.TrimSpace(err.Error()))
	}
	section := f.Section("")
	from := func(to *string, keys ...string) {
		for _, key := range keys {
			setIfEmpty(to, strings.TrimSpace(section.Key(key).String()))
		}
	}
	from(&o.id, "id")
	from(&o.ca, "ca")
	if o.viewing {
		from(&o.token, "viewer_token", "token")
		from(&o.url, "viewer_url", "url")
	} else {
		from(&o.token, "token")
		from(&o.url, "url")
	}
	return nil
}

// checkServer says what is missing or wrong for talking to a server, and what to do.
func (o *options) checkServer(getenv func(string) string) error {
	where := "put `%s` into " + strings.Join(configFiles(getenv), " or ") + ", or set TASKTRACER_%s, or give --%s"
	if o.config != "" {
		where = "put `%s` into " + o.config + ", or set TASKTRACER_%s, or give --%s"
	}
	if o.url == "" {
		return &usageError{fmt.Errorf("no server url: "+where, "url = http://server:8005", "URL", "url")}
	}
	if err := trace.CheckURL(o.url); err != nil {
		return &usageError{err}
	}
	if o.token == "" {
		return &usageError{fmt.Errorf("no token: "+where+" (the server's operator makes one with `tasktracer tokengen`)", "token = …", "TOKEN", "token")}
	}
	return nil
}

// taskName is the flag, or the environment, or the local time.
func (o *options) taskName(getenv func(string) string, now time.Time) (string, error) {
	name := o.name
	if name == "" {
		name = getenv("TASK_TRACER_NAME")
	}
	if name == "" {
		name = now.Format("20060102150405")
	}
	if err := trace.CheckName(name); err != nil {
		return "", &usageError{err}
	}
	return name, nil
}

// spoolDir is where spools lie, by the XDG rules.
func spoolDir(flag string, getenv func(string) string) string {
	if flag != "" {
		return flag
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tasktracer", "spool")
	}
	if runtime.GOOS == "windows" {
		if dir := getenv("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "tasktracer", "spool")
		}
	}
	if dir := home(getenv); dir != "" {
		return filepath.Join(dir, ".local", "state", "tasktracer", "spool")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("tasktracer-%d", os.Getuid()), "spool")
}
