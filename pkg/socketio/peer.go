package socketio

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// passedOn marks a request that came from another process. It is never passed on again, so there can be no loops; a client
// that sends it itself only spoils its own request.
const passedOn = "X-Socketio-Passed-On"

// peers passes requests to the processes that own their sessions.
type peers struct {
	srv       *Server
	transport *http.Transport
}

func newPeers(s *Server) *peers {
	return &peers{srv: s, transport: &http.Transport{
		Proxy:                 nil, // a peer is spoken to directly, whatever the environment says
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
		ResponseHeaderTimeout: 0, // a polling request may wait as long as it likes
		TLSHandshakeTimeout:   3 * time.Second,
	}}
}

func (p *peers) close() { p.transport.CloseIdleConnections() }

// forward passes the request to the process called name, at the address that Config.Peer knows; the request has no say in it.
func (p *peers) forward(w http.ResponseWriter, r *http.Request, name string) {
	s := p.srv
	if s.cfg.Peer == nil || r.Header.Get(passedOn) != "" {
		s.metrics.refused("session")
		refuse(w, http.StatusBadRequest, codeUnknownSession, "Session ID unknown")
		return
	}
	base, ok := s.cfg.Peer(name)
	target, err := url.Parse(base)
	if !ok || err != nil || target.Host == "" {
		s.metrics.refused("peer")
		refuse(w, http.StatusBadRequest, codeUnknownSession, "Session ID unknown")
		return
	}
	failed := false
	proxy := httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = target.Scheme, target.Host
			pr.Out.URL.Path, pr.Out.URL.RawPath = target.Path+pr.In.URL.Path, ""
			pr.Out.Host = pr.In.Host // the peer checks the origin against it
			pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
			pr.SetXForwarded()
			pr.Out.Header.Set(passedOn, s.cfg.Name)
		},
		// The peer sets the same headers, once more.
		ModifyResponse: func(res *http.Response) error {
			for k := range res.Header {
				w.Header().Del(k)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			failed = true
			s.log.Debug("could not pass a request on", "peer", name, "err", err)
			refuse(w, http.StatusBadGateway, codeUnknownSession, "Session ID unknown")
		},
	}
	proxy.ServeHTTP(w, r)
	if failed {
		s.metrics.forwarded("failed")
		return
	}
	s.metrics.forwarded("ok")
}
