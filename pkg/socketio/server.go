package socketio

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Server is a Socket.IO server for clients 1.x to 4.x; an http.Handler for its path (default /socket.io/).
type Server struct {
	cfg      Config
	accept   func(*Conn)
	log      *slog.Logger
	metrics  *Metrics
	start    time.Time
	limits   *limiter
	peers    *peers
	upgrader websocket.Upgrader

	ping, pong, noop, hangup, welcome, goodbye *Message // packets that are always the same

	buffers   sync.Pool // of *[]byte, readSize long
	joiners   sync.Pool // of *joiner
	deflaters sync.Pool // of *flate.Writer

	writers writers

	live sync.WaitGroup // connections not yet finished

	mu    sync.RWMutex // guards what follows
	conns map[string]*Conn
	shut  bool
}

// NewServer makes a server. accept is called once for each connection to the default namespace, before any of its events is delivered.
func NewServer(cfg Config, accept func(*Conn)) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, accept: accept, log: cfg.Log, metrics: &cfg.Metrics, start: time.Now().Add(-time.Second), // now is never 0
		limits: newLimiter(cfg.HandshakeRate, cfg.HandshakeBurst),
		ping:   newText("2"), pong: newText("3"), noop: newText("6"), hangup: newText("1"), welcome: newText("40"), goodbye: newText("41"),
		writers: writers{most: runtime.GOMAXPROCS(0)},
		conns:   make(map[string]*Conn),
	}
	s.peers = newPeers(s)
	s.upgrader = websocket.Upgrader{
		ReadBufferSize:    512,
		WriteBufferPool:   &sync.Pool{},
		HandshakeTimeout:  cfg.WriteTimeout,
		EnableCompression: cfg.Compress,
		CheckOrigin:       func(*http.Request) bool { return true }, // checked before, for polling too
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			refuse(w, status, codeBadRequest, reason.Error())
		},
	}
	return s, nil
}

// now is the time since the server's start; monotonic.
func (s *Server) now() time.Duration { return time.Since(s.start) }

// Engine.IO's error codes.
const (
	codeUnknownTransport = 0
	codeUnknownSession   = 1
	codeBadMethod        = 2
	codeBadRequest       = 3
	codeForbidden        = 4
	codeBadProtocol      = 5
)

func refuse(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message}) // the peer has gone if this fails
}

// ServeHTTP answers every request of the protocol: handshakes, polling, WebSockets, and requests for sessions of other processes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.originAllowed(r) {
		s.metrics.refused("origin")
		refuse(w, http.StatusForbidden, codeForbidden, "origin is not allowed")
		return
	}
	cors(w, r)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	q := r.URL.Query()
	transport := q.Get("transport")
	if q.Has("j") {
		s.metrics.refused("jsonp")
		refuse(w, http.StatusBadRequest, codeBadRequest, "JSONP polling is not supported")
		return
	}
	if transport != "polling" && transport != "websocket" {
		s.metrics.refused("protocol")
		refuse(w, http.StatusBadRequest, codeUnknownTransport, "Transport unknown")
		return
	}
	var eio int
	switch q.Get("EIO") {
	case "3":
		eio = 3
	case "4":
		eio = 4
	default:
		s.metrics.refused("protocol")
		refuse(w, http.StatusBadRequest, codeBadProtocol, "Unsupported protocol version")
		return
	}
	if transport == "websocket" && !websocket.IsWebSocketUpgrade(r) {
		s.metrics.refused("protocol")
		refuse(w, http.StatusBadRequest, codeBadRequest, "Bad request")
		return
	}
	sid := q.Get("sid")
	if sid == "" {
		s.handshake(w, r, q, eio, transport)
		return
	}
	s.session(w, r, sid, eio, transport)
}

// session serves a request that belongs to a session.
func (s *Server) session(w http.ResponseWriter, r *http.Request, sid string, eio int, transport string) {
	name, ok := ownerOf(sid)
	if ok && name != s.cfg.Name {
		s.peers.forward(w, r, name)
		return
	}
	s.mu.RLock()
	c := s.conns[sid]
	s.mu.RUnlock()
	if c == nil || c.eio != eio {
		s.metrics.refused("session")
		refuse(w, http.StatusBadRequest, codeUnknownSession, "Session ID unknown")
		return
	}
	switch {
	case transport == "websocket":
		s.probe(w, r, c)
	case r.Method == http.MethodGet:
		c.poll(w, r)
	case r.Method == http.MethodPost:
		c.post(w, r)
	default:
		s.metrics.refused("method")
		refuse(w, http.StatusBadRequest, codeBadMethod, "Bad method")
	}
}

// Shutdown refuses new connections and closes all (clients see a transport close, and reconnect elsewhere). It returns when every
// OnClose function has returned, or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.shut = true
	all := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.end(ReasonShutdown)
	}
	done := make(chan struct{})
	go func() {
		s.live.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.peers.close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down socketio: %w", ctx.Err())
	}
}

// Len is the number of sessions now.
func (s *Server) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.conns)
}

// add registers c, unless the server is full or shut; the reason is one of Metrics.Refused.
func (s *Server) add(c *Conn) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return "shutdown"
	}
	if len(s.conns) >= s.cfg.MaxConns {
		return "conns"
	}
	s.conns[c.sid] = c
	s.live.Add(1)
	return ""
}

func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c.sid)
	s.mu.Unlock()
}

func (s *Server) panicked(c *Conn, p any) {
	s.metrics.panicked()
	s.log.Error("handler panicked", "conn", c.id, "remote", c.remote, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

func (s *Server) borrowJoiner() *joiner {
	if j, ok := s.joiners.Get().(*joiner); ok {
		return j
	}
	return &joiner{copied: make([]byte, 0, joinSize), parts: make([][]byte, 0, 16)}
}

func (s *Server) giveBackJoiner(j *joiner) { s.joiners.Put(j) }

// borrow gives a buffer of readSize bytes.
func (s *Server) borrow() *[]byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, readSize)
	return &b
}

func (s *Server) giveBack(b *[]byte) { s.buffers.Put(b) }

// originAllowed checks the Origin header, which browsers always send with what matters here; other programs need not send one.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(s.cfg.Origins) == 0 || origin == "" {
		return true
	}
	for _, o := range s.cfg.Origins {
		if strings.EqualFold(o, origin) {
			return true
		}
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) // the page we served ourselves
}

// cors lets pages of other origins read the answers. Clients of generations 1 and 2 ask with credentials, so the origin is named.
func cors(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions {
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
		h.Set("Access-Control-Allow-Headers", want)
	}
	h.Set("Access-Control-Max-Age", "600")
}
