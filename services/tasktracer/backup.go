package main

import (
	"context"
	"errors"
	"fmt"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/ops"
)

// runBackup copies what NATS holds into a folder, while everything is at work.
func runBackup(ctx context.Context, c *call) error {
	return copyStreams(ctx, c, "backup", "`folder` to write the backup to", bus.Backup, "the log, the states and the revocations are in")
}

// runRestore puts a backup into an empty NATS, before `streams` and the services are started.
func runRestore(ctx context.Context, c *call) error {
	return copyStreams(ctx, c, "restore", "`folder` that holds the backup", bus.Restore, "restored from")
}

func copyStreams(ctx context.Context, c *call, name, about string, copy func(context.Context, bus.Config, string) error, done string) error {
	var busCfg bus.Config
	fs := c.flags(name)
	busCfg.Register(fs)
	dir := fs.String("dir", "", about)
	if err := c.parse(fs, busCfg.Validate, needNATS(&busCfg)); err != nil {
		return err
	}
	if *dir == "" {
		return usageError{errors.New("--dir: no folder given")}
	}
	log, err := ops.NewLogger(c.stderr, "text", "info")
	if err != nil {
		return err
	}
	busCfg.Name, busCfg.Log = name, log
	if err := copy(ctx, busCfg, *dir); err != nil {
		return err
	}
	fmt.Fprintln(c.stderr, done, *dir)
	return nil
}
