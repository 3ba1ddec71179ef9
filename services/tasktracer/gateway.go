package main

import (
	"context"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/services/gateway"
)

// runGateway is the browser gateway as a process of its own, behind the door for viewers.
func runGateway(ctx context.Context, c *call) error {
	var hostCfg hostConfig
	var busCfg bus.Config
	var doorCfg doorConfig
	var gatewayCfg gateway.Config
	fs := c.flags("gateway")
	hostCfg.register(fs, ":8004", 3*time.Second)
	busCfg.Register(fs)
	doorCfg.register(fs)
	gatewayCfg.Register(fs)
	if err := c.parse(fs, hostCfg.validate, busCfg.Validate, needNATS(&busCfg), doorCfg.validate, gatewayCfg.Validate); err != nil {
		return err
	}
	return serve(ctx, c, "gateway", hostCfg, busCfg, func(b *base) (work, error) {
		s, err := newGateway(b, gatewayCfg)
		if err != nil {
			return work{}, err
		}
		d, err := openDoor(b.host, doorCfg, roles{gateway: s}, b.siblings)
		if err != nil {
			return work{}, err
		}
		return work{sockets: d, lease: true, parts: []func(context.Context) error{s.Run}}, nil
	})
}

// newGateway builds the gateway and mounts its page and its API.
func newGateway(b *base, cfg gateway.Config) (*gateway.Service, error) {
	s, err := gateway.New(cfg, gateway.Deps{
		Bus: b.bus, Tokens: b.tokens, Log: b.log, Metrics: b.registry,
	})
	if err != nil {
		return nil, err
	}
	s.Mount(b.mux)
	b.health.Check("gateway", s.Ready)
	return s, nil
}
