package socketio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"tasktracer/deploy/e2e/clients"
	"tasktracer/pkg/socketio"
)

// The test binary is also the server process: with this variable set it serves under that name, until its stdin is closed.
const asServer = "SOCKETIO_TEST_SERVER"

func TestMain(m *testing.M) {
	if name := os.Getenv(asServer); name != "" {
		if err := serveProcess(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveProcess prints its address, reads the addresses of all, and serves.
func serveProcess(name string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	peers := map[string]string{}
	if err := json.Unmarshal(line, &peers); err != nil {
		return err
	}
	var forwarded atomic.Int64
	s, err := socketio.NewServer(socketio.Config{
		Name: name, MaxMessage: 8 << 20,
		Peer:    func(name string) (string, bool) { base, ok := peers[name]; return base, ok },
		Metrics: socketio.Metrics{Forwarded: func(string) { forwarded.Add(1) }},
	}, actor())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", s)
	mux.HandleFunc("/forwarded", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, forwarded.Load()) })
	go func() { _ = http.Serve(l, mux) }() // ends with the process
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// startProcesses starts n servers that know each other.
func startProcesses(t *testing.T, n int) (bases []*url.URL) {
	t.Helper()
	peers := map[string]string{}
	var stdins []io.Writer
	for i := range n {
		name := fmt.Sprintf("node-%d", i)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asServer+"="+name)
		cmd.Stderr = t.Output()
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		base := &url.URL{Scheme: "http", Host: strings.TrimSpace(addr)}
		peers[name], bases, stdins = base.String(), append(bases, base), append(stdins, in)
	}
	line, err := json.Marshal(peers)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range stdins {
		if _, err := fmt.Fprintf(in, "%s\n", line); err != nil {
			t.Fatal(err)
		}
	}
	return bases
}

// TestAnyProcessServesAnySession: three processes behind a proxy that gives each request to the next, WebSockets included.
func TestAnyProcessServesAnySession(t *testing.T) {
	clients.Install(t)
	bases := startProcesses(t, 3)
	var turn atomic.Int64
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(bases[int(turn.Add(1))%len(bases)])
			r.SetXForwarded()
		},
	})
	defer proxy.Close()
	chosen := []string{"upgrade", "unicode", "acks", "order", "binary", "disconnect", "reconnect", "eager"}
	for _, alias := range []string{"sio1", "sio2", "sio4"} {
		for _, transport := range []string{"polling", "websocket", "default"} {
			t.Run(clients.Versions()[alias]+"/"+transport, func(t *testing.T) {
				play(t, proxy.URL, alias, transport, chosen...)
			})
		}
	}
	for _, b := range bases {
		if n := get(t, b.String()+"/forwarded"); n == "0" {
			t.Errorf("%s passed nothing on: the test did not test it", b)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
