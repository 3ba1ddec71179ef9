package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"tasktracer/pkg/trace"
)

// viewerOptions say from which server to read, and with which token. They come from a pasted address (that which tt prints), from flags, from
// TASKTRACER_VIEWER_URL and _TOKEN, or from viewer_url and viewer_token in the configuration files; where the latter are missing, from url and token.
type viewerOptions struct {
	options
	task string
	ids  []string
	json bool
}

// parseViewer reads flags and then: [URL | NAME] [id…].
func parseViewer(o *viewerOptions, fs *flag.FlagSet, args []string, sys system) error {
	o.connection(fs)
	fs.BoolVar(&o.json, "json", false, "")
	sys.getenv = viewerEnvironment(sys.getenv)
	if err := parseCommand(fs, args, sys); err != nil {
		return err
	}
	rest := fs.Args()
	// Flags may also stand behind the names: tt watch build --tail 10.
	var names []string
	for len(rest) > 0 {
		if !strings.HasPrefix(rest[0], "-") || rest[0] == "-" {
			names, rest = append(names, rest[0]), rest[1:]
			continue
		}
		if err := parseCommand(fs, rest, sys); err != nil {
			return err
		}
		if rest = fs.Args(); len(rest) > 0 && rest[0] == "--" {
			rest = rest[1:]
		}
	}
	if len(names) > 0 && (strings.HasPrefix(names[0], "http://") || strings.HasPrefix(names[0], "https://")) {
		if err := o.address(names[0]); err != nil {
			return &usageError{err}
		}
		names = names[1:]
	} else if len(names) > 0 {
		o.task, names = names[0], names[1:]
	}
	if len(names) > 0 {
		o.ids = names
	}
	return o.completeViewer(sys)
}

// address takes apart the address of a task's page.
func (o *viewerOptions) address(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("the address %q cannot be read: %w", text, err)
	}
	before, after, found := strings.Cut(u.EscapedPath(), "/tasks/")
	if found {
		if o.task, err = url.PathUnescape(strings.TrimSuffix(after, "/")); err != nil {
			return fmt.Errorf("the address %q cannot be read: %w", text, err)
		}
	}
	q := u.Query()
	if token := q.Get("accessToken"); token != "" {
		o.token = token
	}
	if ids, ok := q["id"]; ok {
		o.ids = ids
	}
	o.url = u.Scheme + "://" + u.Host + strings.TrimSuffix(before, "/")
	return nil
}

func (o *viewerOptions) completeViewer(sys system) error {
	o.viewing = true
	if err := o.complete(sys.getenv); err != nil {
		return err
	}
	if o.url == "" {
		return &usageError{errors.New("no server url: give the address that tt printed, or --url, or put `viewer_url = http://server:8004` into ~/.tt.conf")}
	}
	if err := trace.CheckURL(o.url); err != nil {
		return &usageError{err}
	}
	if o.token == "" {
		return &usageError{errors.New("no token: give the address that tt printed, or --token, or put `viewer_token = …` (a browser token) into ~/.tt.conf")}
	}
	return nil
}

// viewerEnvironment lets TASKTRACER_VIEWER_URL and TASKTRACER_VIEWER_TOKEN stand before those that are meant for running.
func viewerEnvironment(getenv func(string) string) func(string) string {
	return func(name string) string {
		if name == "TASKTRACER_URL" || name == "TASKTRACER_TOKEN" {
			if value := getenv(strings.Replace(name, "_", "_VIEWER_", 1)); value != "" {
				return value
			}
		}
		return getenv(name)
	}
}

func setIfEmpty(to *string, value string) {
	if *to == "" {
		*to = value
	}
}

func (o *viewerOptions) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: o.insecure} //nolint:gosec // asked for by the user, by that name
	if o.ca == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("certificates to trust: %w", err)
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", o.ca)
	}
	return c, nil
}

// api is a server's read API.
type api struct {
	base, token string
	client      *http.Client
}

func (o *viewerOptions) api() (*api, error) {
	c, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	base := o.url
	if rest, ok := strings.CutPrefix(base, "ws"); ok {
		base = "http" + rest
	}
	return &api{base: strings.TrimRight(base, "/") + "/api/v1", token: o.token, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: c, ForceAttemptHTTP2: true},
	}}, nil
}

// problem is an error that the API tells.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

func (p *problem) Error() string {
	switch p.Code {
	case "token_missing", "token_invalid":
		return "the server does not accept the token: reading needs a browser token (`tasktracer tokengen`, or the address that tt printed)"
	case "token_expired", "token_revoked":
		return "the token is no longer good: ask for a new one"
	case "forbidden":
		return "the token is of the wrong kind: reading needs a browser token"
	}
	if p.Detail != "" {
		return "server: " + p.Detail
	}
	return fmt.Sprintf("server: %d %s", p.Status, p.Title)
}

// open requests a path; the caller closes the body.
func (a *api) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	p := &problem{Status: res.StatusCode, Title: http.StatusText(res.StatusCode)}
	if json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(p) != nil && res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s has no read API: it is not the address for viewers (by default port 8004)", a.base)
	}
	return nil, p
}

// get requests a path and reads its JSON into to.
func (a *api) get(ctx context.Context, path string, to any) error {
	body, err := a.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(to); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// runInfo is what the API says of a run, as far as it is used here.
type runInfo struct {
	Run, Task, Client, State, Command, Host string
	StartedAt                               int64
	EndedAt                                 *int64
	Code                                    any
	Signal                                  any
	Bytes, Lines                            uint64
}

type clientInfo struct {
	Client        string
	Runs, Running int
	Latest        runInfo
}

func (a *api) clients(ctx context.Context, task string) ([]clientInfo, error) {
	var list struct{ Clients []clientInfo }
	err := a.get(ctx, "/tasks/"+url.PathEscape(task)+"/clients", &list)
	return list.Clients, err
}
