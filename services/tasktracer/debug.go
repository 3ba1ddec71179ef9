package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
)

// serveDebug opens the private listener. Profiles tell a stranger much and cost much: they are on no other listener.
func (h *host) serveDebug() error {
	listener, err := net.Listen("tcp", h.cfg.DebugListen)
	if err != nil {
		return fmt.Errorf("--debug-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	h.debug = newHTTPServer(mux, h.log)
	go h.serve(h.debug, listener)
	h.log.Info("debugging", "addr", listener.Addr().String())
	return nil
}
