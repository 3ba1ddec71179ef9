package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/natsd"
	"tasktracer/services/gateway"
	"tasktracer/services/ingest"
	"tasktracer/services/tasktracer/secrets"
	"tasktracer/services/token"
)

// allConfig is the parts' configurations, and what only one process with all of them needs.
type allConfig struct {
	host    hostConfig
	bus     bus.Config
	door    doorConfig
	token   token.Config
	ingest  ingest.Config
	gateway gateway.Config

	Data, Config string
	NATSListen   string
	SyncAlways   bool

	tt    string // how tt is called, in the line to paste
	notes []string
}

func (a *allConfig) register(fs *flag.FlagSet) {
	a.ingest = ingest.DefaultConfig()
	a.host.register(fs, "localhost:8004", 0) // nobody is there to take over: no use to wait
	a.bus.Register(fs)
	a.door.register(fs)
	a.token.Register(fs)
	a.ingest.Register(fs)
	a.gateway.Register(fs)
	fs.StringVar(&a.Data, "data", "data", "`directory` of the embedded NATS, and of secrets.json where there is no --config")
	fs.StringVar(&a.Config, "config", "", "configuration `file` with the token secrets; the older system's will do; empty: secrets are made at random, for development")
	fs.StringVar(&a.NATSListen, "nats-listen", "", "`address` at which the embedded NATS listens too; empty: it is reached from within only")
	fs.BoolVar(&a.SyncAlways, "nats-sync-always", false, "sync to disk before each acknowledgement; about 60 times slower, safe against loss of power")
	fs.StringVar(&a.tt, "tt", "tt", "how `tt` is called, in the line to paste")
}

func (a *allConfig) validate() error {
	if a.bus.URL != "" && a.Config == "" {
		return errors.New("--config: with --nats, all processes must share their token secrets")
	}
	if a.bus.URL != "" && a.NATSListen != "" {
		return errors.New("--nats-listen: there is no embedded NATS with --nats")
	}
	return nil
}

// runAll is the whole system in one process: both doors are one address, and NATS is embedded unless --nats names another.
func runAll(ctx context.Context, c *call) error {
	var a allConfig
	fs := c.flags("all")
	a.register(fs)
	if err := c.parse(fs, a.host.validate, a.bus.Validate, a.door.validate, a.ingest.Validate, a.gateway.Validate, a.validate); err != nil {
		return err
	}
	if err := a.secrets(fs); err != nil {
		return err
	}
	if a.bus.URL == "" {
		nats, err := natsd.Start(ctx, natsd.Config{Dir: filepath.Join(a.Data, "nats"), Listen: a.NATSListen, SyncAlways: a.SyncAlways})
		if err != nil {
			return err
		}
		defer nats.Stop()
		a.bus.InProcess = nats
	}
	return serve(ctx, c, "all", a.host, a.bus, func(b *base) (work, error) { return a.build(b, c, given(fs, "public-url")) })
}

// secrets reads the token secrets, and makes them where there are none and none are named.
func (a *allConfig) secrets(fs *flag.FlagSet) error {
	if err := os.MkdirAll(a.Data, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if a.Config == "" {
		if _, err := secrets.Tokens(filepath.Join(a.Data, secretsFile)); err != nil {
			return fmt.Errorf("make token secrets: %w", err)
		}
	}
	keys, file, err := keyring(a.Config, a.Data)
	if err != nil {
		return err
	}
	a.token.Keys, a.token.Life, a.notes = keys, file.Life, file.Notes
	if file.Host != "" && !given(fs, "public-url") {
		a.ingest.PublicURL = file.Host
	}
	return errors.Join(a.token.Validate(), a.ingest.Validate())
}

// build puts the same parts together that the separate commands run.
func (a *allConfig) build(b *base, c *call, publicGiven bool) (work, error) {
	b.note(a.notes)
	if !publicGiven && a.Config == "" {
		a.ingest.PublicURL = localURL(b.listener.Addr())
	}
	tokens, err := newToken(b, a.token)
	if err != nil {
		return work{}, err
	}
	in, err := newIngest(b, a.ingest)
	if err != nil {
		return work{}, err
	}
	gw, err := newGateway(b, a.gateway)
	if err != nil {
		return work{}, err
	}
	d, err := openDoor(b.host, a.door, roles{ingest: in, gateway: gw}, b.siblings)
	if err != nil {
		return work{}, err
	}
	w := work{sockets: d, lease: true, parts: []func(context.Context) error{tokens.Run, in.Run, gw.Run}}
	if a.Config == "" {
		w.announce = func(ctx context.Context) { a.announce(ctx, b, c) }
	}
	return w, nil
}

// announce says that this is a development server, and how to use it, once tokens are answered.
func (a *allConfig) announce(ctx context.Context, b *base, c *call) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := b.tokens.Verify(ctx, "are you there", auth.Browser); auth.Code(err) != "" {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	fmt.Fprintf(c.stdout, "TaskTracer for development: secrets made at random in %s, data in %s. For more than that, give --config.\n",
		filepath.Join(a.Data, secretsFile), a.Data)
	l := links{keys: a.token.Keys, life: a.token.Life, namespace: "default", viewers: a.ingest.PublicURL, clients: a.ingest.PublicURL, tt: a.tt}
	if err := l.print(c.stdout); err != nil {
		b.log.Warn("the links could not be shown", "err", err)
	}
}
