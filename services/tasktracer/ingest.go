package main

import (
	"context"
	"time"

	"tasktracer/pkg/bus"
	"tasktracer/services/ingest"
)

const ingestRole = "ingest"

// runIngest is ingest as a process of its own, behind the door for tt.
func runIngest(ctx context.Context, c *call) error {
	var hostCfg hostConfig
	var busCfg bus.Config
	var doorCfg doorConfig
	ingestCfg := ingest.DefaultConfig()
	fs := c.flags("ingest")
	hostCfg.register(fs, ":8005", 3*time.Second)
	busCfg.Register(fs)
	doorCfg.register(fs)
	ingestCfg.Register(fs)
	if err := c.parse(fs, hostCfg.validate, busCfg.Validate, needNATS(&busCfg), doorCfg.validate, ingestCfg.Validate); err != nil {
		return err
	}
	return serve(ctx, c, ingestRole, hostCfg, busCfg, func(b *base) (work, error) {
		s, err := newIngest(b, ingestCfg)
		if err != nil {
			return work{}, err
		}
		d, err := openDoor(b.host, doorCfg, roles{ingest: s}, b.siblings)
		if err != nil {
			return work{}, err
		}
		return work{sockets: d, lease: true, parts: []func(context.Context) error{s.Run}}, nil
	})
}

// newIngest builds ingest.
func newIngest(b *base, cfg ingest.Config) (*ingest.Service, error) {
	return ingest.New(cfg, ingest.Deps{
		Bus: b.bus, Tokens: b.tokens, Processes: b.siblings, Self: b.self, Log: b.log, Metrics: b.registry,
	})
}
