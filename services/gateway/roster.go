package gateway

import (
	"sort"
	"sync"

	"tasktracer/pkg/bus"
	"tasktracer/pkg/frame"
)

// roster knows every run of the log: who runs, who ended, how. It is fed by the bus's watch, and tells viewers of the tasks they watch.
// All methods are safe for concurrent use; a *frame.Run that it gives away is never changed.
type roster struct {
	condition func(incarnation string) bus.Condition
	m         *Metrics
	synced    chan struct{}

	mu     sync.RWMutex
	tasks  map[taskKey]*rosterTask
	byRun  map[nsRun][]frame.Key
	active map[frame.Key]*frame.Run // not ended
	doubt  map[frame.Key]bool       // active ones whose owner is suspect
	count  int
}

type taskKey struct{ ns, task string }

type nsRun struct{ ns, run string }

type rosterTask struct {
	clients  map[string]*rosterClient
	watchers map[*viewer]struct{}
}

type rosterClient struct {
	runs    map[string]*frame.Run
	present int // of them
}

// change is what a viewer is told of a run: that something is new, and whether its connection came or went, if only for a moment.
type change struct{ in, out, deleted bool }

func newRoster(condition func(string) bus.Condition, m *Metrics) *roster {
	return &roster{
		condition: condition, m: m, synced: make(chan struct{}), tasks: map[taskKey]*rosterTask{}, byRun: map[nsRun][]frame.Key{},
		active: map[frame.Key]*frame.Run{}, doubt: map[frame.Key]bool{},
	}
}

func (r *roster) isSynced() bool {
	select {
	case <-r.synced:
		return true
	default:
		return false
	}
}

// apply takes one change from the bus.
func (r *roster) apply(c bus.RunChange) {
	key := c.Run.Key
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.task(taskKey{key.Namespace, key.Task}, !c.Deleted)
	if t == nil {
		return
	}
	cl := t.clients[key.Client]
	var prev *frame.Run
	if cl != nil {
		prev = cl.runs[key.Run]
	}
	var ch change
	if c.Deleted {
		if prev == nil {
			return
		}
		ch = change{deleted: true, out: prev.Present()}
		r.remove(t, cl, prev)
	} else {
		now := c.Run
		ch = transition(prev, &now)
		r.put(t, prev, &now)
	}
	r.m.runs.Set(float64(r.count))
	if !c.Deleted && prev != nil && sameToViewers(prev, &c.Run) {
		return
	}
	for v := range t.watchers {
		v.runChanged(key, ch)
	}
}

// sameToViewers tells whether only the checkpoint moved, which happens every few seconds to every run.
func sameToViewers(a, b *frame.Run) bool {
	return a.Phase == b.Phase && a.Connected == b.Connected && a.Late == b.Late && a.Epoch == b.Epoch && a.Owner == b.Owner
}

// transition makes up for what was skipped: a run that is gone when it is first heard of has come and gone.
func transition(prev, now *frame.Run) change {
	was := prev != nil && prev.Present()
	if now.Late { // nobody comes in by what is delivered late
		return change{out: was}
	}
	taken := prev != nil && now.Epoch > prev.Epoch
	return change{
		in:  now.Connected && !was || !now.Connected && !was && (prev == nil || taken),
		out: !now.Connected && (was || prev == nil || taken),
	}
}

func (r *roster) task(k taskKey, make_ bool) *rosterTask {
	t := r.tasks[k]
	if t == nil && make_ {
		t = &rosterTask{clients: map[string]*rosterClient{}, watchers: map[*viewer]struct{}{}}
		r.tasks[k] = t
	}
	return t
}

func (r *roster) put(t *rosterTask, prev, now *frame.Run) {
	cl := t.clients[now.Key.Client]
	if cl == nil {
		cl = &rosterClient{runs: map[string]*frame.Run{}}
		t.clients[now.Key.Client] = cl
	}
	if prev == nil {
		r.count++
		k := nsRun{now.Key.Namespace, now.Key.Run}
		r.byRun[k] = append(r.byRun[k], now.Key)
	} else if prev.Present() {
		cl.present--
	}
	if now.Present() {
		cl.present++
	}
	cl.runs[now.Key.Run] = now
	delete(r.doubt, now.Key)
	if now.Phase.Ended() {
		delete(r.active, now.Key)
		return
	}
	r.active[now.Key] = now
	if r.condition(now.Owner) != bus.Live {
		r.doubt[now.Key] = true
	}
}

func (r *roster) remove(t *rosterTask, cl *rosterClient, prev *frame.Run) {
	k := nsRun{prev.Key.Namespace, prev.Key.Run}
	var left []frame.Key
	for _, o := range r.byRun[k] {
		if o != prev.Key {
			left = append(left, o)
		}
	}
	if r.byRun[k] = left; len(left) == 0 {
		delete(r.byRun, k)
	}
	if prev.Present() {
		cl.present--
	}
	delete(cl.runs, prev.Key.Run)
	if len(cl.runs) == 0 {
		delete(t.clients, prev.Key.Client)
	}
	delete(r.active, prev.Key)
	delete(r.doubt, prev.Key)
	r.count--
	r.tidy(taskKey{prev.Key.Namespace, prev.Key.Task})
}

// tidy drops a task that nobody has and nobody watches.
func (r *roster) tidy(k taskKey) {
	if t := r.tasks[k]; t != nil && len(t.clients) == 0 && len(t.watchers) == 0 {
		delete(r.tasks, k)
	}
}

// recheck looks at the owners of active runs anew: some process was, or is, not heard of.
func (r *roster) recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	owners := map[string]bool{}
	for key, run := range r.active {
		bad, known := owners[run.Owner]
		if !known {
			bad = r.condition(run.Owner) != bus.Live
			owners[run.Owner] = bad
		}
		if bad == r.doubt[key] {
			continue
		}
		delete(r.doubt, key)
		if bad {
			r.doubt[key] = true
		}
		for v := range r.tasks[taskKey{key.Namespace, key.Task}].watchers {
			v.runChanged(key, change{})
		}
	}
}

// watch has v told of the task's runs from now on, and gives those that there are.
func (r *roster) watch(k taskKey, v *viewer) []standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.task(k, true)
	t.watchers[v] = struct{}{}
	return r.standings(t)
}

func (r *roster) unwatch(k taskKey, v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tasks[k]; t != nil {
		delete(t.watchers, v)
	}
	r.tidy(k)
}

// standing is a run, and whether its owner is suspect.
type standing struct {
	run     *frame.Run
	suspect bool
}

// state is the wire's word for how the run stands.
func (s standing) state() string {
	if s.suspect && s.run.Phase == frame.Running {
		return "suspect"
	}
	return s.run.Phase.String()
}

func (r *roster) standings(t *rosterTask) []standing {
	var all []standing
	for _, cl := range t.clients {
		for _, run := range cl.runs {
			all = append(all, standing{run, r.doubt[run.Key]})
		}
	}
	sort.Slice(all, func(i, j int) bool { return older(all[i].run, all[j].run) })
	return all
}

// older compares by place in the log; runs whose place is unknown are the latest.
func older(a, b *frame.Run) bool {
	if x, y := a.FirstStreamSeq-1, b.FirstStreamSeq-1; x != y { // 0, unknown, becomes the greatest
		return x < y
	}
	return a.Key.Run < b.Key.Run
}

// task's runs, the oldest first; nil where there are none.
func (r *roster) ofTask(k taskKey) []standing {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tasks[k]
	if t == nil {
		return nil
	}
	return r.standings(t)
}

// ofClient gives a client's runs, the oldest first.
func (r *roster) ofClient(c bus.Client) []standing {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tasks[taskKey{c.Namespace, c.Task}]
	if t == nil || t.clients[c.Client] == nil {
		return nil
	}
	var all []standing
	for _, run := range t.clients[c.Client].runs {
		all = append(all, standing{run, r.doubt[run.Key]})
	}
	sort.Slice(all, func(i, j int) bool { return older(all[i].run, all[j].run) })
	return all
}

// get gives one run.
func (r *roster) get(key frame.Key) (standing, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t := r.tasks[taskKey{key.Namespace, key.Task}]; t != nil {
		if cl := t.clients[key.Client]; cl != nil {
			if run := cl.runs[key.Run]; run != nil {
				return standing{run, r.doubt[key]}, true
			}
		}
	}
	return standing{}, false
}

// present tells whether the client is in: whether any run of it has its connection, and not only to be delivered late.
func (r *roster) present(c bus.Client) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tasks[taskKey{c.Namespace, c.Task}]
	return t != nil && t.clients[c.Client] != nil && t.clients[c.Client].present > 0
}

// byID gives the runs of a namespace that have this id.
func (r *roster) byID(ns, run string) []standing {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []standing
	for _, key := range r.byRun[nsRun{ns, run}] {
		all = append(all, standing{r.tasks[taskKey{key.Namespace, key.Task}].clients[key.Client].runs[key.Run], r.doubt[key]})
	}
	return all
}

// ofNamespace calls fn with each task of a namespace, and its runs.
func (r *roster) ofNamespace(ns string, fn func(task string, runs []standing)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for k, t := range r.tasks {
		if k.ns == ns && len(t.clients) > 0 {
			fn(k.task, r.standings(t))
		}
	}
}
