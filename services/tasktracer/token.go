package main

import (
	"context"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/services/token"
)

// tokenRole is the one part without sockets: it neither holds a lease nor needs to know who does, and NATS lets it see none.
const tokenRole = "token"

// runToken is the token service as a process of its own.
func runToken(ctx context.Context, c *call) error {
	var hostCfg hostConfig
	var busCfg bus.Config
	var tokenCfg token.Config
	fs := c.flags("token")
	hostCfg.register(fs, ":8006", 3*time.Second)
	busCfg.Register(fs)
	tokenCfg.Register(fs)
	config := fs.String("config", "", "configuration `file` with the token secrets; the older system's will do")
	if err := c.parse(fs, hostCfg.validate, busCfg.Validate, needNATS(&busCfg)); err != nil {
		return err
	}
	if *config == "" {
		return usageError{errNoConfig}
	}
	keys, file, err := keyring(*config, "")
	if err != nil {
		return err
	}
	tokenCfg.Keys, tokenCfg.Life = keys, file.Life
	if err := tokenCfg.Validate(); err != nil {
		return usageError{err}
	}
	return serve(ctx, c, tokenRole, hostCfg, busCfg, func(b *base) (work, error) {
		b.note(file.Notes)
		s, err := newToken(b, tokenCfg)
		if err != nil {
			return work{}, err
		}
		return work{parts: []func(context.Context) error{s.Run}}, nil
	})
}

// newToken builds the token service and mounts it.
func newToken(b *base, cfg token.Config) (*token.Service, error) {
	s, err := token.New(cfg, token.Deps{Bus: b.bus, Log: b.log, Metrics: b.registry})
	if err != nil {
		return nil, err
	}
	s.Mount(b.mux)
	b.health.Check("token", s.Ready)
	return s, nil
}

// note logs what an operator should know of the configuration file.
func (h *host) note(notes []string) {
	for _, n := range notes {
		h.log.Info("configuration file", "note", n)
	}
}
