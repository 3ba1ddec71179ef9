package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/deploy/e2e/stage"
)

// page is our page in a real browser, attached to the pulse. What it tells is when rows of the log changed; that it holds every line is shown by its own tests.
type page struct {
	spec
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	profile string
}

func openPage(s spec) (*page, error) {
	var chromium string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		return nil, errors.New("the page's silences are measured in Chromium, which is not here: --page=false leaves that out")
	}
	profile, err := os.MkdirTemp("", "tasktracer-chaos-page-")
	if err != nil {
		return nil, err
	}
	where := fmt.Sprintf("%s/tasks/%s/?%s", s.URL, s.Task, url.Values{"accessToken": {s.Token}, "id": {s.Pulse}}.Encode())
	p := &page{spec: s, profile: profile}
	p.cmd = exec.Command("node", "silence.js", filepath.Join(stage.Root(), "services", "gateway", "web", "node_modules", "playwright-core"), chromium, where, profile,
		fmt.Sprint(silent.Milliseconds()))
	p.cmd.Dir, p.cmd.Stderr = clients.Dir(), os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, 16<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return p, nil
}

// status asks for the silences so far.
func (p *page) status() (s status, err error) {
	if _, err := io.WriteString(p.in, "status\n"); err != nil {
		return s, fmt.Errorf("silence.js: %w", err)
	}
	if !p.out.Scan() {
		return s, fmt.Errorf("silence.js ended: %w", errors.Join(io.ErrUnexpectedEOF, p.out.Err()))
	}
	err = json.Unmarshal(p.out.Bytes(), &s)
	s.ID = p.ID
	return s, err
}

func (p *page) close() {
	_ = p.in.Close()
	_ = p.cmd.Wait() // it is asked for nothing any more
	_ = os.RemoveAll(p.profile)
}
