package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"
)

// lsCommand lists tasks, or with a task's name its clients.
func lsCommand(ctx context.Context, args []string, sys system) error {
	o := &viewerOptions{}
	if err := parseViewer(o, newFlagSet("tt ls"), args, sys); err != nil {
		return err
	}
	a, err := o.api()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	path := "/tasks"
	if o.task != "" {
		path += "/" + url.PathEscape(o.task) + "/clients"
	}
	if o.json {
		var answer json.RawMessage
		if err := a.get(ctx, path, &answer); err != nil {
			return err
		}
		fmt.Fprintf(sys.stdout, "%s\n", answer)
		return nil
	}
	w := tabwriter.NewWriter(sys.stdout, 0, 0, 2, ' ', 0)
	if o.task != "" {
		err = a.listClients(ctx, w, o.task)
	} else {
		err = a.listTasks(ctx, w)
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

func (a *api) listTasks(ctx context.Context, w *tabwriter.Writer) error {
	var list struct {
		Tasks []struct {
			Task                   string
			Clients, Runs, Running int
			Latest                 runInfo
		}
	}
	if err := a.get(ctx, "/tasks", &list); err != nil {
		return err
	}
	fmt.Fprintln(w, "TASK\tCLIENTS\tRUNNING\tRUNS\tLATEST\tSTARTED\tON")
	for _, t := range list.Tasks {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", plainText(t.Task), t.Clients, t.Running, t.Runs, t.Latest.how(), ago(t.Latest.StartedAt), plainText(t.Latest.Client))
	}
	return nil
}

func (a *api) listClients(ctx context.Context, w *tabwriter.Writer, task string) error {
	clients, err := a.clients(ctx, task)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "CLIENT\tSTATE\tSTARTED\tTOOK\tLINES\tRUNS\tCOMMAND")
	for _, c := range clients {
		r := c.Latest
		took := time.Since(time.UnixMilli(r.StartedAt))
		if r.EndedAt != nil {
			took = time.Duration(*r.EndedAt-r.StartedAt) * time.Millisecond
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", plainText(c.Client), r.how(), ago(r.StartedAt), short(took), r.Lines, c.Runs, plainText(clip(r.Command, 60)))
	}
	return nil
}

// how is a run's state, with its end where there is one.
func (r *runInfo) how() string {
	if r.State != "exited" {
		return r.State
	}
	if s, ok := r.Signal.(string); ok && s != "" {
		return plainText(s)
	}
	if code, ok := r.Code.(float64); ok && code == 0 {
		return "ok"
	}
	return plainText(fmt.Sprint("exit ", r.Code))
}

func ago(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return short(time.Since(time.UnixMilli(ms))) + " ago"
}

// short is a duration in one unit, or two.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
