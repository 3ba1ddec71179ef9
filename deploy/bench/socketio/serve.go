package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is one server under comparison.
type peer struct {
	name string
	wire wire
	// start mounts the server and gives what sends one event to every viewer; nil for Node, which is a process of its own kind.
	start func(mux *http.ServeMux) (emit func(payload []byte), err error)
}

// body is the argument of every event: when it was emitted, in Unix nanoseconds, and padding.
type body struct {
	T string `json:"t"`
	P string `json:"p"`
}

// serve runs a peer in this process: it prints its address, and GET /fan makes it emit. It ends with its stdin.
func serve(p peer) error {
	mux := http.NewServeMux()
	emit, err := p.start(mux)
	if err != nil {
		return err
	}
	mux.HandleFunc("/fan", func(w http.ResponseWriter, r *http.Request) {
		n, size, gap := number(r, "n"), number(r, "size"), time.Duration(number(r, "gap"))*time.Microsecond
		fan(n, size, gap, emit)
		fmt.Fprint(w, "done")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { _ = http.Serve(l, mux) }() // ends with the process
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name)) // the load generator is the only caller
	return n
}

// fan emits n events of size bytes, gap apart. Each says when it was due, so that what a server falls behind counts as its lateness, too.
func fan(n, size int, gap time.Duration, emit func([]byte)) {
	pad := strings.Repeat("x", max(0, size-33))
	begin := time.Now()
	for i := range n {
		due := time.Now()
		if gap > 0 {
			due = begin.Add(time.Duration(i) * gap)
			sleepUntil(due)
		}
		payload, _ := json.Marshal(body{T: strconv.FormatInt(due.UnixNano(), 10), P: pad}) // two strings always encode
		emit(payload)
	}
}

// sleepUntil is more exact than time.Sleep, which may be a millisecond late where nothing else goes on.
func sleepUntil(due time.Time) {
	for d := time.Until(due); d > 0; d = time.Until(due) {
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil) // interrupted: once more
	}
}
