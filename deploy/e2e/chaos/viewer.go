package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"sync"
	"time"

	"tasktracer/pkg/socketio"
)

// viewer is one on our own client, with cursors.
type viewer struct {
	spec
	wake chan struct{} // closed and replaced: leave now

	mu       sync.Mutex
	client   *socketio.Client
	away     time.Duration // how long to stay away when it leaves
	runs     map[string]*seenRun
	cursors  map[string]map[string]string // client, run
	trouble  []string
	gaps     [][2]int64
	last     time.Time // when the pulse was heard last; zero while silence is of the viewer's own making
	deaf     bool      // it has let go of the pulse
	connects int
	received int
}

type seenRun struct {
	from    string
	seq     uint64
	ends    []string
	notes   int
	streams map[string]*seenStream
}

type seenStream struct {
	hash  hash.Hash
	bytes int
}

func newViewer(s spec) *viewer {
	return &viewer{spec: s, wake: make(chan struct{}), runs: map[string]*seenRun{}, cursors: map[string]map[string]string{}}
}

func (v *viewer) run(ctx context.Context) {
	_ = socketio.Redial(ctx, socketio.DialConfig{URL: v.URL}, socketio.Backoff{Min: 100 * time.Millisecond, Max: time.Second}, v.watch)
}

// watch is one connection.
func (v *viewer) watch(ctx context.Context, c *socketio.Client) error {
	v.mu.Lock()
	v.connects++
	v.client, v.away, v.deaf = c, 0, false
	wake := v.wake
	after := map[string][]string{}
	for from, byRun := range v.cursors {
		for _, cursor := range byRun {
			after[from] = append(after[from], cursor)
		}
	}
	v.mu.Unlock()
	c.OnEvent(func(e *socketio.Event) {
		if len(e.Args) > 0 {
			v.event(e.Name, e.Args[0])
		}
	})
	err := c.Emit(ctx, "authenticate", map[string]any{"type": "browser_token", "token": v.Token, "v": 2,
		"watch": map[string]any{"task": v.Task, "from": v.From, "history": "all", "batch": true, "after": after}})
	if err != nil {
		return err
	}
	quiet := time.NewTicker(time.Second)
	defer quiet.Stop()
	for {
		select {
		case <-c.Done():
			return c.Err()
		case <-wake:
			v.mu.Lock()
			away := v.away
			v.last = time.Time{}
			v.mu.Unlock()
			_ = c.Close()
			time.Sleep(away)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-quiet.C:
		}
	}
}

func (v *viewer) disturb(kind, from string, d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if kind == "away" {
		v.away = d
		close(v.wake)
		v.wake = make(chan struct{})
		return
	}
	c := v.client
	if c == nil {
		return
	}
	if from == v.Pulse {
		v.last, v.deaf = time.Time{}, true
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		arg := map[string]any{"from": []string{from}, "batch": true}
		_ = c.Emit(ctx, "detach", arg) // the connection may have ended
		time.Sleep(d)
		v.mu.Lock()
		v.deaf = false
		v.mu.Unlock()
		_ = c.Emit(ctx, "attach", arg)
	}()
}

type wireData struct {
	From, Run, Cursor string
	Code              json.RawMessage
	Data              []struct {
		Seq  uint64
		Type string
		Data string
		B64  []byte
	}
}

func (v *viewer) event(name string, arg json.RawMessage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch name {
	case "gap", "problem":
		v.complain("%s %s", name, arg)
		return
	case "data", "eof":
	default:
		return
	}
	var m wireData
	if err := json.Unmarshal(arg, &m); err != nil {
		v.complain("%s %.100s: %v", name, arg, err)
		return
	}
	r := v.runs[m.Run]
	if r == nil {
		r = &seenRun{from: m.From, streams: map[string]*seenStream{"STDOUT": {hash: sha256.New()}, "STDERR": {hash: sha256.New()}}}
		v.runs[m.Run] = r
	}
	if v.cursors[m.From] == nil {
		v.cursors[m.From] = map[string]string{}
	}
	v.cursors[m.From][m.Run] = m.Cursor
	if name == "eof" {
		r.ends = append(r.ends, string(m.Code))
		return
	}
	v.heard(&m, r)
}

func (v *viewer) heard(m *wireData, r *seenRun) {
	if now := time.Now(); m.From == v.Pulse && !v.deaf {
		if !v.last.IsZero() && now.Sub(v.last) > silent {
			v.gaps = append(v.gaps, [2]int64{v.last.UnixMilli(), now.UnixMilli()})
		}
		v.last = now
	}
	for _, rec := range m.Data {
		if rec.Seq <= r.seq {
			v.complain("twice %s %d after %d", m.From, rec.Seq, r.seq)
		}
		r.seq = max(r.seq, rec.Seq)
		if rec.Type == "NOTE" {
			r.notes++
			continue
		}
		s := r.streams[rec.Type]
		if s == nil {
			v.complain("%s %.100q", rec.Type, rec.Data)
			continue
		}
		s.hash.Write([]byte(rec.Data))
		s.hash.Write(rec.B64)
		s.bytes += len(rec.Data) + len(rec.B64)
		v.received += len(rec.Data) + len(rec.B64)
	}
}

func (v *viewer) complain(format string, args ...any) {
	if len(v.trouble) < 20 {
		v.trouble = append(v.trouble, fmt.Sprintf(format, args...))
	}
}

func (v *viewer) status() status {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := status{ID: v.ID, Trouble: append([]string(nil), v.trouble...), Gaps: append([][2]int64(nil), v.gaps...), Connects: v.connects, Received: v.received}
	for _, r := range v.runs {
		out := runStatus{From: r.from, Ends: r.ends, Notes: r.notes, Streams: map[string]sum{}}
		for name, st := range r.streams {
			out.Streams[name] = sum{hex.EncodeToString(st.hash.Sum(nil)), st.bytes}
		}
		s.Runs = append(s.Runs, out)
	}
	return s
}
