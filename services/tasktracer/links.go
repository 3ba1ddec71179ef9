package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"tasktracer/pkg/auth"
)

// runLinks prints what a newcomer needs: a URL to open, and a tt line to paste.
func runLinks(_ context.Context, c *call) error {
	fs := c.flags("links")
	config := fs.String("config", "", "configuration `file` with the secrets; else secrets.json in --data")
	data := fs.String("data", "data", "data `directory` of a server without configuration file")
	ns := fs.String("ns", "default", "`namespace` of the tokens")
	public := fs.String("public-url", "http://localhost:8004", "`URL` at which viewers reach the gateways")
	clients := fs.String("client-url", "", "`URL` at which tt reaches ingest; --public-url if empty")
	tt := fs.String("tt", "tt", "how tt is called")
	if err := c.parse(fs); err != nil {
		return err
	}
	keys, file, err := keyring(*config, *data)
	if err != nil {
		return err
	}
	if !given(fs, "public-url") && file.Host != "" {
		*public = file.Host
	}
	if *clients == "" {
		*clients = *public
	}
	return links{keys: keys, life: file.Life, namespace: *ns, viewers: *public, clients: *clients, tt: *tt}.print(c.stdout)
}

// links are fresh tokens, wrapped in what is to be done with them.
type links struct {
	keys             *auth.Keyring
	life             map[auth.Type]time.Duration
	namespace        string
	viewers, clients string // URLs
	tt               string
}

func (l links) print(w io.Writer) error {
	browser, _, err := l.keys.Sign(auth.Claims{Type: auth.Browser, Namespace: l.namespace}, l.life[auth.Browser])
	if err != nil {
		return err
	}
	client, _, err := l.keys.Sign(auth.Claims{Type: auth.Client, Namespace: l.namespace}, l.life[auth.Client])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nOpen this in a browser:\n\n  %s/?accessToken=%s\n\nPaste this into another terminal:\n\n  TASKTRACER_URL=%s TASKTRACER_TOKEN=%s %s -n hello 'for i in 1 2 3 4 5; do echo line $i; sleep 1; done'\n\n",
		strings.TrimRight(l.viewers, "/"), url.QueryEscape(browser), shellWord(l.clients), client, l.tt)
	if err != nil {
		return fmt.Errorf("print the links: %w", err)
	}
	return nil
}

// shellWord quotes a word for a POSIX shell.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
