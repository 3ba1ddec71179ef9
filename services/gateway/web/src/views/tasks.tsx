// The list of a namespace's tasks.

import { Component } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, listTasks, type Api, type ApiTask } from "../api.ts";
import { address, type Route } from "../route.ts";
import { ago, duration, moment } from "../rows/time.ts";
import type { Settings } from "../settings.ts";
import { ending, mood, type Mood } from "./model.ts";
import { Light, Notice, useNow } from "./parts.tsx";
import { TopBar } from "./topbar.tsx";

type Column = "task" | "state" | "in" | "startedAt" | "duration";

/** The list is read anew this often, in ms; less often where nobody looks. */
const refresh = 2000;
/** Rows beyond the window are rendered in steps of this many; another order or filter begins with so many again. */
const step = 100;

export function taskAddress(task: string): string {
  return address({ task, ids: [], all: false, view: "one", focus: "", run: "", from: 0, to: 0 });
}

export function TasksPage(p: { api: Api; go: (r: Route) => void; settings: Settings; change: (s: Partial<Settings>) => void }) {
  const [tasks, setTasks] = useState<ApiTask[] | undefined>();
  const [error, setError] = useState<ApiError | undefined>();
  const [filter, setFilter] = useState("");
  const [only, setOnly] = useState("all");
  const [sort, setSort] = useState<{ by: Column; down: boolean }>({ by: "startedAt", down: true });
  const [shown, setShown] = useState(step);
  const input = useRef<HTMLInputElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const now = useNow(true);

  useEffect(() => {
    document.title = "Tasks · TaskTracer";
    let timer: ReturnType<typeof setTimeout>;
    const stop = new AbortController();
    const load = async () => {
      try {
        setTasks(await listTasks(p.api, stop.signal));
        setError(undefined);
      } catch (e) {
        if (stop.signal.aborted) return;
        setError(e instanceof ApiError ? e : new ApiError(0, String(e)));
      }
      timer = setTimeout(load, document.hidden ? refresh * 10 : refresh);
    };
    void load();
    const key = (e: KeyboardEvent) => {
      if (e.key === "/" && document.activeElement !== input.current) {
        e.preventDefault();
        input.current?.focus();
      }
    };
    addEventListener("keydown", key);
    return () => {
      stop.abort();
      clearTimeout(timer);
      removeEventListener("keydown", key);
    };
  }, [p.api]);

  const list = useMemo(() => {
    const f = filter.trim().toLowerCase();
    const rows = (tasks ?? []).filter((t) => (f === "" || t.task.toLowerCase().includes(f)) && (only === "all" || group(t) === only));
    const get = (t: ApiTask): string | number => {
      if (sort.by === "task") return t.task.toLowerCase();
      if (sort.by === "state") return group(t);
      if (sort.by === "duration") return length(t, now);
      return t[sort.by];
    };
    rows.sort((a, b) => {
      const x = get(a);
      const y = get(b);
      return (x < y ? -1 : x > y ? 1 : a.task < b.task ? -1 : 1) * (sort.down ? -1 : 1);
    });
    return rows;
  }, [tasks, filter, only, sort]);

  const choose = (change: () => void) => {
    change();
    setShown(step);
  };

  useEffect(() => {
    if (!end.current) return undefined;
    const o = new IntersectionObserver((e) => e.some((x) => x.isIntersecting) && setShown((n) => n + step));
    o.observe(end.current);
    return () => o.disconnect();
  }, [list.length > shown]);

  if (error && (error.status === 401 || error.status === 403))
    return (
      <Notice title="The access token is not accepted">
        <p>{error.message}</p>
        <p>
          Open a fresh address: every <code>tt</code> prints one when it starts, and <code>tasktracer tokengen</code> makes new tokens.
        </p>
      </Notice>
    );

  const head = (by: Column, label: string) => (
    <th scope="col" class={`col-${by}`} aria-sort={sort.by === by ? (sort.down ? "descending" : "ascending") : "none"}>
      <button type="button" onClick={() => choose(() => setSort({ by, down: sort.by === by ? !sort.down : by === "startedAt" || by === "in" }))}>
        {label}
        <span aria-hidden="true">{sort.by === by ? (sort.down ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
  return (
    <div class="page tasks">
      <TopBar settings={p.settings} change={p.change} link={error ? { state: "offline", since: 0 } : tasks ? { state: "online" } : { state: "connecting" }} />
      <main>
        <div class="tools" key="tools">
          <h1>Tasks</h1>
          <input ref={input} type="search" placeholder="Filter by name  ( / )" aria-label="Filter tasks by name" value={filter} onInput={(e) => choose(() => setFilter(e.currentTarget.value))} />
          <select aria-label="Show" value={only} onChange={(e) => choose(() => setOnly(e.currentTarget.value))}>
            <option value="all">all</option>
            <option value="running">running</option>
            <option value="failed">failed</option>
            <option value="passed">passed</option>
          </select>
          <span class="muted" role="status">
            {tasks ? `${list.length === tasks.length ? tasks.length : `${list.length} of ${tasks.length}`} ${tasks.length === 1 ? "task" : "tasks"}` : ""}
          </span>
        </div>
        {error && <p class="warn" role="alert">{error.message} Trying again…</p>}
        {!tasks && !error && <p class="empty">Loading…</p>}
        {tasks && tasks.length === 0 && (
          <div class="empty">
            <p>Nothing has run yet.</p>
            <p>
              Put <code>tt</code> before a command and it appears here: <code>tt -n hello 'echo hi'</code>
            </p>
          </div>
        )}
        {tasks && tasks.length > 0 && list.length === 0 && <p class="empty">No task matches.</p>}
        {list.length > 0 && (
          <table key="list">
            <thead>
              <tr>
                {head("state", "State")}
                {head("task", "Task")}
                {head("in", "Clients")}
                {head("startedAt", "Last run")}
                {head("duration", "Duration")}
              </tr>
            </thead>
            <tbody>
              {list.slice(0, shown).map((t) => (
                <TaskRow key={t.task} task={t} ago={ago(t.startedAt, now)} took={t.startedAt ? duration(length(t, now)) : ""} go={p.go} />
              ))}
            </tbody>
          </table>
        )}
        {list.length > shown && <div ref={end} class="end" />}
      </main>
    </div>
  );
}

interface RowProps {
  task: ApiTask;
  ago: string;
  took: string;
  go: (r: Route) => void;
}

/** A row of the list. The list is read anew every few seconds, and of a thousand rows few look other than before. */
class TaskRow extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const old = this.props;
    const fields = Object.keys(next.task) as (keyof ApiTask)[];
    return next.ago !== old.ago || next.took !== old.took || fields.some((k) => next.task[k] !== old.task[k]);
  }

  render({ task: t, ago, took, go }: RowProps) {
    const m = standing(t);
    return (
      <tr>
        <td class="col-state">
          <Light mood={m} />
          <span class={`word ${m}`}>{words(t)}</span>
        </td>
        <td class="col-task">
          <a href={taskAddress(t.task)} onClick={(e) => follow(e, () => go(routeOf(t.task)))}>
            {t.task}
          </a>
        </td>
        <td class="col-in">{t.in > 0 && t.clients > 1 ? `${t.in} of ${t.clients} in` : t.clients}</td>
        <td class="col-startedAt" title={moment(t.startedAt)}>
          {ago}
        </td>
        <td class="col-duration">{took}</td>
      </tr>
    );
  }
}

function asRun(t: ApiTask) {
  return { run: "", client: "", state: t.state, startedAt: t.startedAt, endedAt: t.endedAt, code: t.code, signal: t.signal, message: "", cmd: "", host: "", bytes: 0, lines: 0 };
}

/** How a task stands: a client that failed counts for more than one that still runs, and both for more than the run that began last. */
function standing(t: ApiTask): Mood {
  const latest = t.state === "" ? "unknown" : mood(asRun(t));
  if (t.failed > 0) return latest === "lost" && t.failed === 1 ? "lost" : "failed";
  return t.in > 0 && latest !== "detached" ? "running" : latest;
}

/** The same in words: of one client how it ended, of several how many did. */
function words(t: ApiTask): string {
  if (t.clients <= 1) return ending(asRun(t));
  const parts = [t.failed > 0 ? `${t.failed} failed` : "", t.in > 0 ? `${t.in} running` : ""].filter((s) => s !== "");
  return parts.length > 0 ? parts.join(", ") : ending(asRun(t));
}

function group(t: ApiTask): string {
  const m = standing(t);
  return m === "lost" ? "failed" : m === "detached" ? "running" : m;
}

function length(t: ApiTask, now: number): number {
  return Math.max(0, (t.endedAt || now) - t.startedAt);
}

function routeOf(task: string): Route {
  return { task, ids: [], all: false, view: "one", focus: "", run: "", from: 0, to: 0 };
}

/** Stays in the page for an ordinary click; other clicks do what the browser does. */
export function follow(e: MouseEvent, go: () => void): void {
  if (e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  go();
}
