package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"tasktracer/deploy/e2e/clients"
)

// spec is what a viewer is told to be.
type spec struct {
	ID         string   `json:"id"`
	Alias      string   `json:"alias"` // sio1, sio4, or go: our own client
	URL        string   `json:"url"`
	Token      string   `json:"token"`
	Task       string   `json:"task"`
	From       []string `json:"from"`
	V2         bool     `json:"v2"`
	Pulse      string   `json:"pulse"` // the client whose silences are noted
	Transports []string `json:"transports,omitempty"`
}

// status is what a viewer tells of itself.
type status struct {
	ID       string
	Runs     []runStatus
	Trouble  []string
	Gaps     [][2]int64
	Connects int
	Done     bool
}

type runStatus struct {
	From    string
	Ended   bool
	Streams map[string]sum
}

// crowd is all viewers: those of the npm libraries in one node process, our own here.
type crowd struct {
	specs []spec
	ours  map[string]*viewer
	node  *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	mu    sync.Mutex // one who asks at a time
}

func newCrowd(ctx context.Context, specs []spec) (*crowd, error) {
	c := &crowd{specs: specs, ours: map[string]*viewer{}, node: exec.Command("node", "--max-old-space-size=2048", "viewers.js")}
	c.node.Dir, c.node.Stderr = clients.Dir(), os.Stderr
	var err error
	if c.in, err = c.node.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.node.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	c.out.Buffer(nil, 16<<20)
	if err := c.node.Start(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	for _, s := range specs {
		if s.Alias == "go" {
			v := newViewer(s)
			c.ours[s.ID] = v
			go v.run(ctx)
			continue
		}
		if err := c.tell(struct {
			Op string `json:"op"`
			spec
		}{"viewer", s}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *crowd) tell(m any) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = c.in.Write(append(line, '\n'))
	return err
}

func (c *crowd) close() {
	_ = c.in.Close()
	_ = c.node.Wait()
}

// disturb has some viewers leave and come back, or let go of a client for a while.
func (c *crowd) disturb(d deed) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 1 + d.Which%4
	for i := range n {
		s := c.specs[(d.Which+i*7)%len(c.specs)]
		from := s.From[d.Which%len(s.From)]
		if v := c.ours[s.ID]; v != nil {
			v.disturb(d.Kind, from, d.For)
			continue
		}
		_ = c.tell(map[string]any{"op": d.Kind, "id": s.ID, "ms": d.For.Milliseconds(), "from": from})
	}
	return fmt.Sprintf("%d viewers", n)
}

// status asks all viewers.
func (c *crowd) status() (map[string]status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]status{}
	if err := c.tell(map[string]string{"op": "status"}); err != nil {
		return nil, err
	}
	for c.out.Scan() {
		var s status
		if err := json.Unmarshal(c.out.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("viewers.js said %.200q: %w", c.out.Text(), err)
		}
		if s.Done {
			for id, v := range c.ours {
				out[id] = v.status()
			}
			return out, nil
		}
		out[s.ID] = s
	}
	return nil, fmt.Errorf("viewers.js ended: %w", c.out.Err())
}
