package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// apiPrefix begins all addresses of the read API.
const apiPrefix = "/api/v1/"

func (s *Service) mountAPI(mux *http.ServeMux) {
	api := http.NewServeMux()
	for _, route := range []struct {
		name, pattern string
		typ           auth.Type
		handle        func(http.ResponseWriter, *http.Request, auth.Claims) error
	}{
		{"token", "GET /api/v1/token", auth.Browser, s.apiToken},
		{"tasks", "GET /api/v1/tasks", auth.Browser, s.apiTasks},
		{"clients", "GET /api/v1/tasks/{task}/clients", auth.Browser, s.apiClients},
		{"runs", "GET /api/v1/tasks/{task}/runs", auth.Browser, s.apiRuns},
		{"run", "GET /api/v1/runs/{run}", auth.Browser, s.apiRun},
		{"log", "GET /api/v1/runs/{run}/log", auth.Browser, s.apiLog},
		{"search", "GET /api/v1/runs/{run}/search", auth.Browser, s.apiSearch},
		{"delete", "DELETE /api/v1/runs/{run}", auth.Base, s.apiDelete},
	} {
		api.Handle(route.pattern, s.counted(route.name, s.authorized(route.typ, route.handle)))
	}
	mux.Handle(apiPrefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		secure(h)
		h.Set("Cache-Control", "no-store")
		if _, pattern := api.Handler(r); pattern == "" {
			s.apiNothing(api, w, r)
			return
		}
		api.ServeHTTP(w, r)
	}))
}

// apiNothing answers for addresses and methods that there are not.
func (s *Service) apiNothing(api *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodDelete} {
		try := r.Clone(r.Context())
		try.Method = m
		if _, pattern := api.Handler(try); pattern != "" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		newProblem(http.StatusNotFound, "not_found", "there is nothing at this address").write(w)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not for this address", r.Method).write(w)
}

// authorized lets those in who have a token of a type.
func (s *Service) authorized(typ auth.Type, handle func(http.ResponseWriter, *http.Request, auth.Claims) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := s.claims(r, typ)
		if err == nil && !s.roster.isSynced() {
			err = newProblem(http.StatusServiceUnavailable, "busy", "the list of runs is still being read").retry()
		}
		if err == nil {
			err = handle(w, r, claims)
		}
		if err == nil || r.Context().Err() != nil {
			return
		}
		p := problemFrom(err)
		if p.Code == "busy" {
			s.log.Warn("a request that could not be answered", "path", r.URL.Path, "err", err)
		}
		s.m.refused.WithLabelValues(p.Code).Inc()
		p.write(w)
	})
}

func (s *Service) claims(r *http.Request, typ auth.Type) (auth.Claims, error) {
	token, err := bearer(r)
	if err != nil {
		return auth.Claims{}, err
	}
	c, err := s.verify(r.Context(), token, typ)
	if !errors.Is(err, auth.ErrInvalid) {
		return c, err
	}
	for _, other := range auth.Types() {
		if other == typ {
			continue
		}
		if _, e := s.verify(r.Context(), token, other); e == nil {
			return c, newProblem(http.StatusForbidden, "forbidden", "this wants a token of type %s, not %s", typ, other)
		}
	}
	return c, err
}

// bearer is the token of a request; the header goes before the address.
func bearer(r *http.Request) (string, error) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), nil
	}
	given := r.URL.Query()["accessToken"]
	switch len(given) {
	case 0:
		return "", auth.ErrMissing
	case 1:
		return given[0], nil
	}
	return "", badRequest("accessToken is given more than once")
}

// runJSON is a run, in the API.
type runJSON struct {
	Run        string          `json:"run"`
	Task       string          `json:"task"`
	Client     string          `json:"client"`
	State      string          `json:"state"`
	Suspect    bool            `json:"suspect"`
	Connected  bool            `json:"connected"`
	Legacy     bool            `json:"legacy"`
	Late       bool            `json:"late"`
	Command    string          `json:"command"`
	Host       string          `json:"host"`
	Tags       []string        `json:"tags"`
	StartedAt  *int64          `json:"startedAt"`
	EndedAt    *int64          `json:"endedAt"`
	ChangedAt  *int64          `json:"changedAt"`
	Code       json.RawMessage `json:"code"`
	Signal     json.RawMessage `json:"signal"`
	Message    string          `json:"message"`
	Bytes      uint64          `json:"bytes"`
	Lines      uint64          `json:"lines"`
	LastSeq    uint64          `json:"lastSeq"`
	Order      string          `json:"order"`
	TaskObject json.RawMessage `json:"taskObject"`
}

func toJSON(st standing) runJSON {
	r := st.run
	task := object(r.Task)
	j := runJSON{
		Run: r.Key.Run, Task: r.Key.Task, Client: r.Key.Client,
		State: r.Phase.String(), Suspect: st.suspect && r.Phase == frame.Running, Connected: r.Connected, Legacy: r.Legacy, Late: r.Late,
		Command: text(task["cmd"]), Host: text(task["host"]), Tags: []string{},
		StartedAt: moment(r.Started), EndedAt: moment(r.Ended), ChangedAt: moment(r.Changed),
		Code: orNull(r.Exit.Code), Signal: orNull(r.Exit.Signal), Message: r.Exit.Message,
		Bytes: r.Checkpoint.Bytes, Lines: r.Checkpoint.Line, LastSeq: r.Checkpoint.Seq,
		Order: strconv.FormatUint(r.FirstStreamSeq, 10), TaskObject: orNull(r.Task),
	}
	var tags []string
	if json.Unmarshal(task["tags"], &tags) == nil && tags != nil {
		j.Tags = tags
	}
	return j
}

func moment(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// orNull is b, or null where it is empty or, by some older client's fault, no JSON.
func orNull(b []byte) json.RawMessage {
	if !json.Valid(b) {
		return json.RawMessage("null")
	}
	return b
}

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only when nobody is there to be told
	return nil
}

func (s *Service) apiToken(w http.ResponseWriter, _ *http.Request, c auth.Claims) error {
	tasks := c.Tasks
	if tasks == nil {
		tasks = []string{}
	}
	return answerJSON(w, struct {
		Namespace string   `json:"namespace"`
		Type      string   `json:"type"`
		Tasks     []string `json:"tasks"`
		ReadOnly  bool     `json:"readOnly"`
		IssuedAt  *int64   `json:"issuedAt"`
		ExpiresAt *int64   `json:"expiresAt"`
	}{c.Namespace, string(c.Type), tasks, c.ReadOnly, moment(c.IssuedAt), moment(c.Expires)})
}

type taskJSON struct {
	Task          string  `json:"task"`
	Clients       int     `json:"clients"`
	Runs          int     `json:"runs"`
	Running       int     `json:"running"`
	Failed        int     `json:"failed"` // clients whose latest run did
	LastStartedAt *int64  `json:"lastStartedAt"`
	Latest        runJSON `json:"latest"`
}

func (s *Service) apiTasks(w http.ResponseWriter, _ *http.Request, c auth.Claims) error {
	tasks := []taskJSON{}
	s.roster.ofNamespace(c.Namespace, func(task string, runs []standing) {
		if !c.Allows(task) {
			return
		}
		latest := runs[len(runs)-1]
		t := taskJSON{Task: task, Runs: len(runs), LastStartedAt: moment(latest.run.Started), Latest: toJSON(latest)}
		clients := map[string]standing{}
		for _, st := range runs {
			clients[st.run.Key.Client] = st
			if !st.run.Past() {
				t.Running++
			}
		}
		t.Clients = len(clients)
		for _, st := range clients {
			if st.failed() {
				t.Failed++
			}
		}
		tasks = append(tasks, t)
	})
	sort.Slice(tasks, func(i, j int) bool { return tasks[i].Task < tasks[j].Task })
	return answerJSON(w, struct {
		Namespace string     `json:"namespace"`
		Tasks     []taskJSON `json:"tasks"`
	}{c.Namespace, tasks})
}

// failed tells whether a run is over and has not ended well.
func (st standing) failed() bool {
	r := st.run
	signal := string(orNull(r.Exit.Signal))
	return r.Phase == frame.Gone || r.Phase == frame.Exited && (string(r.Exit.Code) != "0" || signal != "null" && signal != `""`)
}

// runsOf are a task's runs, the oldest first; none of a task that the token is not good for.
func (s *Service) runsOf(c auth.Claims, task string) ([]standing, error) {
	if !c.Allows(task) {
		return nil, newProblem(http.StatusNotFound, "not_found", "there is no such task")
	}
	return s.roster.ofTask(taskKey{c.Namespace, task}), nil
}

type clientJSON struct {
	Client  string  `json:"client"`
	Runs    int     `json:"runs"`
	Running int     `json:"running"`
	Latest  runJSON `json:"latest"`
}

func (s *Service) apiClients(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	task := r.PathValue("task")
	runs, err := s.runsOf(c, task)
	if err != nil {
		return err
	}
	by := map[string]*clientJSON{}
	ids := []string{}
	latest := map[string]standing{}
	for _, st := range runs {
		id := st.run.Key.Client
		j := by[id]
		if j == nil {
			j = &clientJSON{Client: id}
			by[id] = j
			ids = append(ids, id)
		}
		j.Runs++
		if !st.run.Past() {
			j.Running++
		}
		latest[id] = st
	}
	sort.Strings(ids)
	clients := make([]*clientJSON, len(ids))
	for i, id := range ids {
		by[id].Latest = toJSON(latest[id])
		clients[i] = by[id]
	}
	return answerJSON(w, struct {
		Task    string        `json:"task"`
		Clients []*clientJSON `json:"clients"`
	}{task, clients})
}

const (
	defaultRuns = 100
	maxRuns     = 1000
)

func (s *Service) apiRuns(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	task := r.PathValue("task")
	runs, err := s.runsOf(c, task)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	limit, err := natural(q.Get("limit"), "limit", defaultRuns, 1, maxRuns)
	if err != nil {
		return err
	}
	before, err := natural(q.Get("before"), "before", 0, 0, 1<<63)
	if err != nil {
		return err
	}
	out := []runJSON{}
	var next *string
	for i := len(runs) - 1; i >= 0; i-- {
		run := runs[i].run
		if q.Has("client") && run.Key.Client != q.Get("client") || before > 0 && run.FirstStreamSeq >= before {
			continue
		}
		if uint64(len(out)) == limit {
			next = &out[len(out)-1].Order
			break
		}
		out = append(out, toJSON(runs[i]))
	}
	return answerJSON(w, struct {
		Task string    `json:"task"`
		Runs []runJSON `json:"runs"`
		Next *string   `json:"next"`
	}{task, out, next})
}

// natural reads a number of a query; def where it is absent.
func natural(text, name string, def, least, most uint64) (uint64, error) {
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, badRequest("%s %q: want a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

// find gives the run that an address names.
func (s *Service) find(r *http.Request, c auth.Claims) (standing, error) {
	q := r.URL.Query()
	var found []standing
	for _, st := range s.roster.byID(c.Namespace, r.PathValue("run")) {
		k := st.run.Key
		if !c.Allows(k.Task) || q.Has("task") && q.Get("task") != k.Task || q.Has("client") && q.Get("client") != k.Client {
			continue
		}
		found = append(found, st)
	}
	switch len(found) {
	case 0:
		return standing{}, noSuchRun()
	case 1:
		return found[0], nil
	}
	p := newProblem(http.StatusConflict, "ambiguous", "several runs have this id: say which by task and client")
	for _, st := range found {
		p.Runs = append(p.Runs, runNames{st.run.Key.Task, st.run.Key.Client})
	}
	return standing{}, p
}

func (s *Service) apiRun(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	st, err := s.find(r, c)
	if err != nil {
		return err
	}
	j := toJSON(st)
	x, err := s.extent(r.Context(), st.run)
	if err != nil && !errors.Is(err, frame.ErrVersion) { // of a run that is beyond this version, the state is what can be told
		return err
	}
	j.LastSeq, j.Bytes, j.Lines = x.seq, x.bytes, x.lines
	return answerJSON(w, j)
}

func (s *Service) apiDelete(w http.ResponseWriter, r *http.Request, c auth.Claims) error {
	if c.ReadOnly {
		return newProblem(http.StatusForbidden, "forbidden", "this token may only read")
	}
	st, err := s.find(r, c)
	if err != nil {
		return err
	}
	k := st.run.Key
	ctx, cancel := context.WithTimeout(r.Context(), deleteWithin)
	defer cancel()
	status := http.StatusNoContent
	err = s.bus.DeleteRun(ctx, k)
	if errors.Is(err, bus.ErrErasing) {
		err, status = nil, http.StatusAccepted
	}
	if err != nil {
		return err
	}
	s.m.deleted.Inc()
	s.log.Info("run was deleted", "ns", k.Namespace, "task", k.Task, "client", k.Client, "run", k.Run)
	w.WriteHeader(status)
	return nil
}

// deleteWithin is how long a caller waits for a run's bytes to be overwritten, which takes milliseconds for each chunk; then it goes on without it.
const deleteWithin = 20 * time.Second
