package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"tasktracer/pkg/socketio"
)

const task = "bench"

// bound is what docs/operating.md says that a gateway with default flags takes at most, for so many viewers and watched clients.
func bound(viewers, clients int) int64 {
	const (
		base, ring, cache, reader, viewer, readers = 32, 1, 64, 4, 2, 16
	)
	return int64(2*(base+cache+clients*ring+readers*reader+viewers*viewer)) << 20
}

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

// speeds prints how a late viewer gets the long run.
func (s *stage) speeds(ctx context.Context, mb, rounds int) error {
	fmt.Printf("a late viewer of %d lines, %d MB; %d rounds, medians\n%-52s %10s %10s\n", mb*10_000, mb, rounds, "", "first, ms", "MB/s")
	for _, c := range []struct {
		name string
		do   func(*gateway) (first, all time.Duration, err error)
	}{
		{"read API, whole", func(g *gateway) (time.Duration, time.Duration, error) { return s.download(ctx, g, mb) }},
		{"Socket.IO, batches", func(g *gateway) (time.Duration, time.Duration, error) { return s.attend(ctx, g, "text", true) }},
		{"Socket.IO, an event for each record", func(g *gateway) (time.Duration, time.Duration, error) { return s.attend(ctx, g, "text", false) }},
	} {
		var firsts, rates []float64
		for range rounds {
			g, err := s.gateway(ctx)
			if err != nil {
				return err
			}
			first, all, err := c.do(g)
			if _, _, cerr := g.close(); err == nil {
				err = cerr
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			firsts, rates = append(firsts, float64(first.Microseconds())/1e3), append(rates, float64(mb)/all.Seconds())
		}
		fmt.Printf("%-52s %10.1f %10.0f\n", c.name, median(firsts), median(rates))
	}
	return nil
}

func (s *stage) get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.Browser)
	resp, err := http.DefaultClient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp, err
}

// download reads the whole run by the read API.
func (s *stage) download(ctx context.Context, g *gateway, mb int) (first, all time.Duration, err error) {
	resp, err := s.get(ctx, g.url+"/api/v1/tasks/"+task+"/runs?client=text")
	if err != nil {
		return 0, 0, err
	}
	var list struct{ Runs []struct{ Run string } }
	err = json.NewDecoder(resp.Body).Decode(&list)
	_ = resp.Body.Close()
	if err != nil || len(list.Runs) != 1 {
		return 0, 0, fmt.Errorf("runs: %+v (%w)", list, err)
	}
	begun := time.Now()
	if resp, err = s.get(ctx, g.url+"/api/v1/runs/"+list.Runs[0].Run+"/log"); err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, 0, err
	}
	first = time.Since(begun)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	if err == nil && n+1 != int64(mb)*1_000_000 {
		err = fmt.Errorf("%d bytes came", n+1)
	}
	return first, time.Since(begun), err
}

// attend reads the whole run of a form as a viewer that looks at nothing but the first bytes of each message: it is the gateway that is measured.
func (s *stage) attend(ctx context.Context, g *gateway, form string, batch bool) (first, all time.Duration, err error) {
	ws, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(g.url, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		return 0, 0, err
	}
	_ = resp.Body.Close()
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	hello, err := json.Marshal([]any{"authenticate", s.watch(form, batch, nil)})
	if err != nil {
		return 0, 0, err
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte("40")); err != nil {
		return 0, 0, err
	}
	var begun time.Time
	head, rest := make([]byte, 9), make([]byte, 64<<10)
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return 0, 0, err
		}
		n, _ := io.ReadFull(r, head) // a short message is one, too
		var answer []byte
		switch msg := string(head[:n]); {
		case msg == "2":
			answer = []byte("3")
		case strings.HasPrefix(msg, "40"):
			begun, answer = time.Now(), append([]byte("42"), hello...)
		case strings.HasPrefix(msg, `42["data"`) && first == 0:
			first = time.Since(begun)
		case strings.HasPrefix(msg, `42["eof"`):
			return first, time.Since(begun), nil
		}
		if answer != nil {
			if err := ws.WriteMessage(websocket.TextMessage, answer); err != nil {
				return 0, 0, err
			}
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, rest); err != nil {
			return 0, 0, err
		}
	}
}

// watch is what a viewer says.
func (s *stage) watch(form string, batch bool, after []string) map[string]any {
	w := map[string]any{"task": task, "from": []string{form}, "history": "all", "batch": batch}
	if len(after) > 0 {
		w["after"] = map[string][]string{form: after}
	}
	return map[string]any{"type": "browser_token", "token": s.Browser, "v": 2, "watch": w}
}

// crowd has many viewers attach at once to a run that has ended, all of whom read all of it.
func (s *stage) crowd(ctx context.Context, form string, mb, viewers int) error {
	g, err := s.gateway(ctx)
	if err != nil {
		return err
	}
	errs := make(chan error, viewers)
	var worst time.Duration
	var mu sync.Mutex
	begun := time.Now()
	for i := range viewers {
		go func() {
			first, _, err := s.attend(ctx, g, form, i%2 == 0)
			mu.Lock()
			worst = max(worst, first)
			mu.Unlock()
			errs <- err
		}()
	}
	for range viewers {
		err = errors.Join(err, <-errs)
	}
	took := time.Since(begun).Seconds()
	resident, heap, cerr := g.close()
	if err = errors.Join(err, cerr); err != nil {
		return err
	}
	fmt.Printf("  (%d MB to each of %d in %.1f s, %.0f MB/s in all; the last had its first bytes after %.0f ms)\n", mb, viewers, took, float64(mb*viewers)/took, float64(worst.Milliseconds()))
	return judge(fmt.Sprintf("%d viewers at once, %s", viewers, form), resident, heap, bound(viewers, 1))
}

func judge(what string, resident, heap, most int64) error {
	fmt.Printf("%-52s %10d %10d %10d\n", what, resident>>20, heap>>20, most>>20)
	if resident > most {
		return fmt.Errorf("%s: %d MiB resident, the bound is %d MiB", what, resident>>20, most>>20)
	}
	return nil
}

// stalled has a viewer read nothing from the beginning of a flood to its end, and then all of it.
func (s *stage) stalled(ctx context.Context, mb int) error {
	const form = "flood"
	g, err := s.gateway(ctx, "--write-timeout", "10m") // it would be let go of after 30 s, and cost nothing then
	if err != nil {
		return err
	}
	v := &sleeper{s: s, form: form, hash: sha256.New(), ended: make(chan struct{})}
	v.hold.Lock()
	vctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = socketio.Redial(vctx, socketio.DialConfig{URL: g.url}, socketio.Backoff{Min: 100 * time.Millisecond, Max: time.Second}, v.use)
	}()
	want := sha256.New()
	begun := time.Now()
	err = s.write(ctx, form, mb)
	took := time.Since(begun)
	if err == nil {
		err = writeLines(want, form, mb*10_000)
	}
	v.hold.Unlock()
	begun = time.Now()
	if err == nil {
		select {
		case <-v.ended:
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(5 * time.Minute):
			err = errors.New("5 minutes after it woke the viewer has not seen the end")
		}
	}
	rest := time.Since(begun).Seconds()
	cancel()
	<-gone
	resident, heap, cerr := g.close()
	if err = errors.Join(err, cerr); err != nil {
		return err
	}
	same := string(v.hash.Sum(nil)) == string(want.Sum(nil))
	fmt.Printf("  (%d MB written in %.1f s; the viewer then woke and had all of it after %.1f s; %d connections; SHA-256 equal: %v)\n", mb, took.Seconds(), rest, v.connects, same)
	if !same || len(v.trouble) > 0 {
		err = fmt.Errorf("the viewer that woke has %d bytes, which are not what was written; it was told %q", v.bytes, v.trouble)
	}
	return errors.Join(err, judge("a viewer that reads nothing of a flood, then all", resident, heap, bound(1, 1)))
}

// sleeper is a viewer that reads when it is let, and goes on behind its cursor when its connection was closed meanwhile.
type sleeper struct {
	s     *stage
	form  string
	hold  sync.Mutex // held while it sleeps
	ended chan struct{}

	mu       sync.Mutex
	hash     hash.Hash
	bytes    int
	cursor   string
	connects int // the number of the connection that counts
	trouble  []string
}

func (v *sleeper) use(ctx context.Context, c *socketio.Client) error {
	v.mu.Lock()
	v.connects++
	mine := v.connects
	var after []string
	if v.cursor != "" {
		after = []string{v.cursor}
	}
	v.mu.Unlock()
	c.OnEvent(func(e *socketio.Event) {
		v.hold.Lock()
		v.hold.Unlock() //nolint:staticcheck // it waits until it is let
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.connects == mine {
			v.hear(e)
		}
	})
	if err := c.Emit(ctx, "authenticate", v.s.watch(v.form, true, after)); err != nil {
		return err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
	return c.Err()
}

// hear takes an event. v.mu is held.
func (v *sleeper) hear(e *socketio.Event) {
	var m struct {
		Cursor string
		Data   json.RawMessage
	}
	if len(e.Args) == 0 || json.Unmarshal(e.Args[0], &m) != nil {
		return
	}
	switch e.Name {
	case "data":
		var recs []struct {
			Type, Data string
			B64        []byte
		}
		if err := json.Unmarshal(m.Data, &recs); err != nil {
			v.trouble = append(v.trouble, err.Error())
			return
		}
		for _, r := range recs {
			v.hash.Write([]byte(r.Data))
			v.hash.Write(r.B64)
			v.bytes += len(r.Data) + len(r.B64)
		}
		v.cursor = m.Cursor
	case "gap", "problem":
		v.trouble = append(v.trouble, e.Name+" "+string(e.Args[0]))
	case "eof":
		v.cursor = m.Cursor
		close(v.ended)
	}
}
