package main

import (
	"context"
	"errors"
	"fmt"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/ops"
	"tasktracer/services/tasktracer/secrets"
)

var errNoConfig = errors.New("--config: no file given")

// runSetup fills a folder with a deployment's secrets. It may be run again at any time; what is there stays.
func runSetup(_ context.Context, c *call) error {
	fs := c.flags("setup")
	dir := fs.String("dir", "", "`folder` to fill with what secrets are missing in it")
	hosts := fs.String("hosts", "localhost", "`names` that the NATS certificate is good for, with commas between")
	if err := c.parse(fs); err != nil {
		return err
	}
	if *dir == "" {
		return usageError{errors.New("--dir: no folder given")}
	}
	if err := secrets.Generate(*dir, secrets.Hosts(*hosts)); err != nil {
		return err
	}
	fmt.Fprintln(c.stderr, "secrets are in", *dir)
	return nil
}

// runStreams makes the stream and the buckets, as the user that may. It may be run again at any time; limits given by flags are brought up to date.
func runStreams(ctx context.Context, c *call) error {
	var busCfg bus.Config
	fs := c.flags("streams")
	busCfg.Register(fs)
	if err := c.parse(fs, busCfg.Validate, needNATS(&busCfg)); err != nil {
		return err
	}
	log, err := ops.NewLogger(c.stderr, "text", "info")
	if err != nil {
		return err
	}
	busCfg.Name, busCfg.Log = "streams", log
	b, err := bus.Open(ctx, busCfg)
	if err != nil {
		return fmt.Errorf("make the stream and the buckets: %w", err)
	}
	b.Close()
	fmt.Fprintln(c.stderr, "the stream and the buckets are there")
	return nil
}

// needNATS refuses an empty --nats, for commands that have no NATS of their own.
func needNATS(cfg *bus.Config) func() error {
	return func() error {
		if cfg.URL == "" {
			return errors.New("--nats: no address given")
		}
		return nil
	}
}
