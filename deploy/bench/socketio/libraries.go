package main

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/centrifugal/centrifuge"
	googollee "github.com/googollee/go-socket.io"
	zishang "github.com/zishang520/socket.io/servers/socket/v3"
)

func startGoogollee(mux *http.ServeMux) (func([]byte), error) {
	s := googollee.NewServer(nil)
	s.OnConnect("/", func(c googollee.Conn) error { c.Join("all"); return nil })
	s.OnError("/", func(googollee.Conn, error) {})
	s.OnDisconnect("/", func(googollee.Conn, string) {})
	go func() { _ = s.Serve() }() // ends with the process
	mux.Handle("/socket.io/", s)
	return func(payload []byte) { s.BroadcastToRoom("/", "all", "data", asBody(payload)) }, nil
}

func asBody(payload []byte) body {
	var b body
	_ = json.Unmarshal(payload, &b) // our own encoding
	return b
}

func startZishang(mux *http.ServeMux) (func([]byte), error) {
	opts := zishang.DefaultServerOptions()
	opts.SetAllowEIO3(true)
	s := zishang.NewServer(nil, nil)
	mux.Handle("/socket.io/", s.ServeHandler(opts))
	return func(payload []byte) {
		b := asBody(payload)
		s.Emit("data", map[string]any{"t": b.T, "p": b.P})
	}, nil
}

func startCentrifuge(mux *http.ServeMux) (func([]byte), error) {
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel:           centrifuge.LogLevelNone,
		ClientQueueMaxSize: 64 << 20, // of its own accord it hangs up on who is 1 MiB behind, and this is flat out
	})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: "u"},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"all": {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	mux.Handle("/socket.io/", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin: func(*http.Request) bool { return true },
	}))
	return func(payload []byte) {
		_, _ = node.Publish("all", payload) // a failure is missed by the count
	}, nil
}
