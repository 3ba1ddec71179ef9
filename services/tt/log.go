package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// logCommand writes a run's whole output to stdout, byte by byte as it was.
func logCommand(ctx context.Context, args []string, sys system) error {
	o := &viewerOptions{}
	fs := newFlagSet("tt log")
	run := fs.String("run", "", "")
	lines := fs.String("lines", "", "")
	streams := fs.String("streams", "", "")
	strip := fs.Bool("strip", false, "")
	if err := parseViewer(o, fs, args, sys); err != nil {
		return err
	}
	if o.task == "" && *run == "" {
		return &usageError{errors.New("which task? tt log NAME [id], or tt log --run RUN; `tt ls` shows what there is")}
	}
	a, err := o.api()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	q := url.Values{}
	for key, value := range map[string]string{"lines": *lines, "streams": *streams} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if *strip {
		q.Set("ansi", "strip")
	}
	if o.json {
		q.Set("format", "ndjson")
	}
	if *run == "" {
		latest, err := a.latest(ctx, o)
		if err != nil {
			return err
		}
		*run = latest.Run
		q.Set("task", latest.Task)
		q.Set("client", latest.Client)
	}
	body, err := a.open(ctx, "/runs/"+url.PathEscape(*run)+"/log?"+q.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(sys.stdout, body); err != nil {
		return fmt.Errorf("the log is not whole: %w", err)
	}
	return nil
}

// latest is the last run of the client that is meant.
func (a *api) latest(ctx context.Context, o *viewerOptions) (runInfo, error) {
	clients, err := a.clients(ctx, o.task)
	if err != nil {
		return runInfo{}, err
	}
	var names []string
	for _, c := range clients {
		if len(o.ids) > 0 && c.Client == o.ids[0] {
			c.Latest.Task, c.Latest.Client = o.task, c.Client
			return c.Latest, nil
		}
		names = append(names, plainText(c.Client))
	}
	switch {
	case len(clients) == 0:
		return runInfo{}, fmt.Errorf("nothing has run under the name %s", o.task)
	case len(o.ids) > 0:
		return runInfo{}, fmt.Errorf("%s has not run %s; these have: %s", o.ids[0], o.task, strings.Join(names, ", "))
	case len(clients) > 1:
		return runInfo{}, &usageError{fmt.Errorf("whose log? %s was run by: %s", o.task, strings.Join(names, ", "))}
	}
	clients[0].Latest.Task, clients[0].Latest.Client = o.task, clients[0].Client
	return clients[0].Latest, nil
}
