package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"tasktracer/pkg/trace"
	"tasktracer/pkg/trace/spool"
)

const (
	// checkTime bounds each of the doctor's checks.
	checkTime = 10 * time.Second
	// skewToTell is from where on a host's clock is worth a word: it dates the output.
	skewToTell = 2 * time.Second
)

// doctorCommand looks at everything that tt needs, step by step, and says what to do about what is wrong.
func doctorCommand(ctx context.Context, args []string, sys system) error {
	o := &options{}
	fs := newFlagSet("tt doctor")
	o.connection(fs)
	fs.StringVar(&o.spoolDir, "spool-dir", "", "")
	if err := parseCommand(fs, args, sys); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	d := &doctor{o: o, sys: sys}
	d.configuration()
	d.token()
	d.spool()
	if d.o.url != "" && trace.CheckURL(d.o.url) == nil {
		d.network(ctx)
	}
	if d.failed > 0 {
		return codeError(exitFailure)
	}
	return nil
}

type doctor struct {
	o      *options
	sys    system
	failed int
}

func (d *doctor) ok(what, format string, args ...any) {
	fmt.Fprintf(d.sys.stdout, "ok      %-14s %s\n", what, plainText(fmt.Sprintf(format, args...)))
}

func (d *doctor) hint(what, format string, args ...any) {
	fmt.Fprintf(d.sys.stdout, "note    %-14s %s\n", what, plainText(fmt.Sprintf(format, args...)))
}

func (d *doctor) bad(what string, err error, advice string) {
	d.failed++
	fmt.Fprintf(d.sys.stdout, "FAILED  %-14s %s\n        %-14s what to do: %s\n", what, plainText(err.Error()), "", advice)
}

func (d *doctor) configuration() {
	if err := d.o.complete(d.sys.getenv); err != nil {
		d.bad("configuration", err, "correct the file, or give another one with --config")
		return
	}
	var read []string
	for _, f := range configFiles(d.sys.getenv) {
		if info, err := os.Stat(f); err == nil {
			read = append(read, f)
			if runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 && strings.HasPrefix(f, home(d.sys.getenv)) {
				d.hint("configuration", "%s can be read by every user of this host, and holds a token: chmod 600 %s", f, f)
			}
		}
	}
	if d.o.config != "" {
		read = []string{d.o.config}
	}
	if len(read) == 0 {
		read = []string{"no file; flags and environment only"}
	}
	d.ok("configuration", "%s", strings.Join(read, ", "))
	if err := trace.CheckURL(d.o.url); err != nil {
		d.bad("url", err, "put `url = http://server:8005` into "+configFiles(d.sys.getenv)[0])
		return
	}
	d.ok("url", "%s", d.o.url)
	d.ok("id", "%s", d.o.id)
}

// token reads what the token says of itself; whether it is good the server decides.
func (d *doctor) token() {
	advice := "ask the server's operator for a client token (`tasktracer tokengen --type client_token`), and put `token = …` into " + configFiles(d.sys.getenv)[0]
	if d.o.token == "" {
		d.bad("token", errors.New("there is none"), advice)
		return
	}
	var claims struct {
		Type, NS string
		Exp      int64
	}
	parts := strings.Split(d.o.token, ".")
	if len(parts) != 3 {
		d.bad("token", errors.New("it is no token of three parts"), advice)
		return
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	switch expires := time.Unix(claims.Exp, 0); {
	case err != nil:
		d.bad("token", fmt.Errorf("it cannot be read: %w", err), advice)
	case claims.Type != "client_token":
		d.bad("token", fmt.Errorf("it is a %s", claims.Type), "sending output needs a client_token: "+advice)
	case claims.Exp > 0 && time.Now().After(expires):
		d.bad("token", fmt.Errorf("it expired at %s", expires.Format(time.RFC3339)), advice)
	case claims.Exp > 0:
		d.ok("token", "namespace %q, good until %s", claims.NS, expires.Format(time.RFC3339))
	default:
		d.ok("token", "namespace %q, does not expire", claims.NS)
	}
}

// spool tries the directory in the way a run would.
func (d *doctor) spool() {
	dir := spoolDir(d.o.spoolDir, d.sys.getenv)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.bad("spool", err, "make the directory writable, or choose another one with --spool-dir or TASKTRACER_SPOOL_DIR")
		return
	}
	probe := filepath.Join(dir, fmt.Sprintf(".doctor-%d", os.Getpid()))
	err := os.WriteFile(probe, make([]byte, 64<<10), 0o600)
	_ = os.Remove(probe) // it may not have come to be
	if err != nil {
		d.bad("spool", err, "make room or set the rights, or choose another directory with --spool-dir or TASKTRACER_SPOOL_DIR")
		return
	}
	d.ok("spool", "%s", dir)
	left, damaged, err := spool.Left(dir)
	if err != nil {
		d.bad("spool", err, "see who owns the directory")
		return
	}
	for _, run := range damaged {
		d.hint("spool", "%s is damaged: it cannot be known where its output should go; delete %s when you have looked at it", run, filepath.Join(dir, run))
	}
	if len(left) > 0 {
		d.hint("spool", "%d runs are there: running now, or left to be sent by `tt flush`", len(left))
	}
}

func (d *doctor) network(ctx context.Context) {
	u, err := url.Parse(d.o.url)
	if err != nil {
		return // checked before
	}
	lookup, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(lookup, u.Hostname())
	if err != nil {
		d.bad("name", err, "check the host in the url, and this host's DNS")
		return
	}
	d.ok("name", "%s is %s", u.Hostname(), strings.Join(addresses, ", "))
	if !d.connect(lookup, u) {
		return
	}
	r, err := trace.Probe(ctx, trace.Config{URL: d.o.url, Token: d.o.token, ID: d.o.id, Name: "doctor", CAFile: d.o.ca, Insecure: d.o.insecure}, checkTime)
	if err != nil {
		d.bad("server", err, trace.Advice(err))
		return
	}
	d.ok("server", "accepts the token; a round trip takes %v", r.Round(100*time.Microsecond))
	d.clock(ctx)
}

// clock compares this host's clock with the date of a web answer, which is good to a second.
func (d *doctor) clock(ctx context.Context) {
	v := &viewerOptions{options: *d.o}
	a, err := v.api()
	if err != nil {
		return // told before
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(a.base, "/api/v1")+"/healthz", nil)
	if err != nil {
		return // the url was good before
	}
	begun := time.Now()
	res, err := a.client.Do(req)
	if err != nil {
		d.hint("clock", "cannot be compared: %v", err)
		return
	}
	defer res.Body.Close()
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		d.hint("clock", "cannot be compared: the server's answers have no date")
		return
	}
	skew := begun.Add(time.Since(begun) / 2).Sub(date.Add(500 * time.Millisecond))
	if skew.Abs() > skewToTell {
		d.hint("clock", "this host's clock is %v off the server's; output is dated by it: check NTP", skew.Round(time.Second))
		return
	}
	d.ok("clock", "within %v of the server's", skewToTell)
}

func (d *doctor) connect(ctx context.Context, u *url.URL) bool {
	secure := u.Scheme == "https" || u.Scheme == "wss"
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[secure]
	}
	address := net.JoinHostPort(u.Hostname(), port)
	c, err := (&net.Dialer{Timeout: checkTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		d.bad("connection", err, "check that the server runs, its port (8005, or 8004 for `tasktracer all`), and firewalls; behind a proxy set HTTPS_PROXY")
		return d.sys.getenv("HTTPS_PROXY")+d.sys.getenv("https_proxy")+d.sys.getenv("HTTP_PROXY")+d.sys.getenv("http_proxy") != ""
	}
	defer c.Close()
	d.ok("connection", "%s", address)
	if !secure {
		return true
	}
	v := &viewerOptions{options: *d.o}
	cfg, err := v.tlsConfig()
	if err != nil {
		d.bad("tls", err, "give a file of certificates in PEM form with --ca")
		return false
	}
	cfg.ServerName = u.Hostname()
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		d.bad("tls", err, "if the certificate is your own, give it with --ca FILE; else the server's operator must renew it")
		return false
	}
	expires := t.ConnectionState().PeerCertificates[0].NotAfter
	d.ok("tls", "certificate good until %s", expires.Format("2006-01-02"))
	return true
}
