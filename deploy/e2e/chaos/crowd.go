package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"tasktracer/deploy/e2e/clients"
)

// spec is what a viewer is told to be.
type spec struct {
	ID         string   `json:"id"`
	Alias      string   `json:"alias"` // sio1, sio4; go: our own client; page: our page in Chromium, of which silences only are known
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
	Gaps     [][2]int64 // silences of the pulse, from and to in ms
	Connects int
	Attached int64 // when the server last took the viewer in, in ms; 0 while it has not; of those without the extension
	Received int   // bytes of output, also what came again
	Link     []struct {
		At int64
		Is string
	} // what the page says of its connection, and when it began to
	Done bool
}

type runStatus struct {
	From    string
	Ends    []string // the codes of its eofs
	Notes   int
	Streams map[string]sum
}

// crowd is all viewers: those of the npm libraries in one node process, our own here.
type crowd struct {
	specs []spec
	ours  map[string]*viewer
	page  *page
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
		switch s.Alias {
		case "go":
			v := newViewer(s)
			c.ours[s.ID] = v
			go v.run(ctx)
			continue
		case "page":
			if c.page, err = openPage(s); err != nil {
				return nil, err
			}
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
	if c.page != nil {
		c.page.close()
	}
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
		if s.Alias == "page" {
			continue
		}
		from := s.From[d.Which%len(s.From)]
		if v := c.ours[s.ID]; v != nil {
			v.disturb(d.Kind, from, d.For)
			continue
		}
		_ = c.tell(map[string]any{"op": d.Kind, "id": s.ID, "ms": d.For.Milliseconds(), "from": from})
	}
	return fmt.Sprintf("%d viewers", n)
}

// await waits until every viewer has had some output: before that nothing can be kept from it.
func (c *crowd) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		all, err := c.status()
		if err != nil {
			return err
		}
		behind := ""
		for _, s := range c.specs {
			if all[s.ID].Received == 0 {
				behind = s.ID
			}
		}
		if behind == "" {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("nothing comes to %s: %w", behind, ctx.Err())
		}
	}
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
			if c.page != nil {
				s, err := c.page.status()
				if err != nil {
					return nil, err
				}
				out[s.ID] = s
			}
			return out, nil
		}
		out[s.ID] = s
	}
	return nil, fmt.Errorf("viewers.js ended: %w", errors.Join(io.ErrUnexpectedEOF, c.out.Err()))
}
