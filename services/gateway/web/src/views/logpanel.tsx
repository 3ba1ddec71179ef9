// A log with what belongs to it: how the run stands, the tools, the rows, the search.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { listRuns, type ApiRun } from "../api.ts";
import { bytesText } from "../words.ts";
import { LogView } from "../rows/view.ts";
import { duration, moment, type TimeStyle } from "../rows/time.ts";
import type { Marker } from "../rows/marks.ts";
import { expression } from "../search/hits.ts";
import type { LogHandle } from "../worker/bridge.ts";
import type { Query, Spec, Status } from "../worker/messages.ts";
import { name } from "./clients.tsx";
import { download } from "./download.ts";
import { ending, mood, over, type Client, type TaskModel } from "./model.ts";
import { Light, Toggle, useNow } from "./parts.tsx";
import { parseJump } from "./jump.ts";
import { typing, type TaskProps } from "./task.tsx";

type Which = { kind: "run"; from: string; run: string } | { kind: "merged" };

/** Time from a key to the search for what was typed, in ms: whoever types on ends it. */
const searchSoon = 60;
/** Time between two searches of a log that grows, in ms. */
const searchAgain = 500;
/** Time between two renderings of what stands around the rows, in ms. */
const wordsEvery = 200;

const times: TimeStyle[] = ["off", "local", "utc", "start"];
const timeWords: Record<TimeStyle, string> = { off: "no times", local: "local times", utc: "UTC", start: "since start" };

export interface LogPanelProps extends TaskProps {
  model: TaskModel;
  spec: Which;
  run: ApiRun | undefined;
  client: Client | undefined;
  runs: ApiRun[];
}

export function LogPanel(p: LogPanelProps) {
  const { route, go, settings, theme, model, run } = p;
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<LogView>(undefined);
  const handle = useRef<LogHandle>(undefined);
  const [status, setStatus] = useState<Status>();
  const [follow, setFollow] = useState({ on: true, behind: 0 });
  const [stderr, setStderr] = useState(false);
  const [query, setQuery] = useState<Query>({ text: "", matchCase: false, regexp: false });
  const [found, setFound] = useState<{ rows: number[]; hits: number; error: string; busy: boolean; at: number }>({ rows: [], hits: 0, error: "", busy: false, at: -1 });
  const [said, say] = useState("");
  const [jump, setJump] = useState<string>();
  const input = useRef<HTMLInputElement>(null);
  const ended = !!run && over(run.state);
  const live = useRef({ route, found, follow, stderr, ended });
  live.current = { route, found, follow, stderr, ended };
  const now = useNow(!!run && !ended);
  const merged = p.spec.kind === "merged";

  // Layout effects, as effects wait for the next paint, and the first rows need not.
  useLayoutEffect(() => {
    const v = new LogView(
      host.current!,
      {
        follow: (on, behind) => setFollow((f) => (f.on === on && f.behind === behind ? f : { on, behind })),
        line: (line, extend) => {
          const r = live.current.route;
          const from = extend && r.from > 0 ? Math.min(r.from, line) : line;
          const to = extend && r.from > 0 ? Math.max(r.to, line) : line;
          go({ ...r, from, to, run: run?.run ?? r.run }, true);
        },
        all: (lines) => {
          if (!merged && lines > 0) go({ ...live.current.route, from: 1, to: lines, run: run?.run ?? live.current.route.run }, true);
        },
        client: (id) => go({ ...live.current.route, view: "one", focus: id, run: "", from: 0, to: 0 }),
      },
      merged ? "Output of all attached clients" : `Output of ${name(p.spec.kind === "run" ? p.spec.from : "")}`,
    );
    view.current = v;
    const numbers = new Map<string, number>();
    v.colourOf = (id) => {
      let n = numbers.get(id);
      if (n === undefined) numbers.set(id, (n = numbers.size % 12));
      return n;
    };
    return () => v.destroy();
  }, []);

  useLayoutEffect(() => {
    const v = view.current!;
    let epoch = -1;
    let moves = -1;
    let busy = false;
    let latest: Status | undefined;
    // A line in the address is gone to as soon as it is there, and again when rows have other numbers, as those before it came
    // or turned out to be deleted; but not where somebody has gone elsewhere meanwhile.
    const toLine = (s: Status) => {
      const there = route.from > 0 && !merged && (s.live || s.lines >= route.from);
      if (!there || busy || s.epoch === epoch || (epoch >= 0 && moves !== v.moves)) return;
      epoch = s.epoch;
      busy = true;
      const before = v.moves;
      void h.rowOfLine(route.from - 1).then((row) => {
        busy = false;
        if (before !== v.moves) return;
        v.goTo(row);
        moves = v.moves;
        if (latest) toLine(latest);
      });
    };
    let told = 0;
    let timer = 0;
    const h = model.bridge.open({ ...p.spec, stderr } as Spec, (s) => {
      // The rows follow every status, the words around them a few times a second.
      const due = !latest || latest.live !== s.live || latest.count === 0 ? 0 : told + wordsEvery - performance.now();
      latest = s;
      clearTimeout(timer);
      const tell = () => {
        told = performance.now();
        setStatus(latest);
      };
      if (due <= 0) tell();
      else timer = window.setTimeout(tell, due);
      v.status(s);
      toLine(s);
    });
    handle.current = h;
    v.setLog(h, route.from === 0 && !live.current.ended);
    return () => {
      clearTimeout(timer);
      h.close();
    };
  }, [stderr]);

  useLayoutEffect(() => view.current?.setLook({ wrap: settings.wrap, theme, time: settings.time }), [settings.wrap, settings.time, theme]);
  useLayoutEffect(() => view.current?.setRange(route.from, route.to), [route.from, route.to]);

  // The search runs again as the log grows, but one after the other, and not with every line.
  const again = useRef<() => void>(undefined);
  useLayoutEffect(() => {
    const v = view.current!;
    if (query.text === "") {
      setFound({ rows: [], hits: 0, error: "", busy: false, at: -1 });
      v.setHits(undefined, []);
      return undefined;
    }
    setFound((f) => ({ ...f, busy: true }));
    let current = true;
    let busy = false;
    let due = false;
    const search = async () => {
      const h = handle.current;
      if (!h) return;
      busy = true;
      const f = await h.find(query);
      if (!current) return;
      busy = false;
      const { at, rows } = live.current.found;
      setFound((old) => ({ rows: f.rows, hits: f.hits, error: f.error ?? "", busy: false, at: old.at }));
      v.setHits(f.error || f.slow ? undefined : marker(query, h), f.rows);
      const moved = at >= 0 ? f.rows[at] : undefined;
      if (moved !== undefined && moved !== rows[at]) v.moveHit(moved);
      if (due) timer = window.setTimeout(search, searchAgain);
      due = false;
    };
    let timer = window.setTimeout(search, searchSoon);
    again.current = () => {
      if (busy) due = true;
      else {
        clearTimeout(timer);
        timer = window.setTimeout(search, searchSoon);
      }
    };
    return () => {
      current = false;
      again.current = undefined;
      clearTimeout(timer);
    };
  }, [query, stderr]);
  // Also where rows have other numbers now, as lines before them have come that take more rows than one, or none.
  const grown = status ? `${Math.floor(status.count / 5000)} ${status.live} ${status.epoch}` : "";
  useEffect(() => again.current?.(), [grown]);

  const step = (by: number) => {
    const { rows, at } = live.current.found;
    if (rows.length === 0) return;
    let next: number;
    if (at < 0) {
      const top = view.current!.topRow;
      next = rows.findIndex((r) => r >= top);
      if (next < 0) next = 0;
    } else {
      next = (at + by + rows.length) % rows.length;
    }
    setFound((f) => ({ ...f, at: next }));
    view.current!.showHit(rows[next]!);
  };
  const copy = async () => {
    const r = live.current.route;
    const h = handle.current;
    if (!h || r.from === 0) return say("Choose lines first: click a line number, then Shift-click another.");
    try {
      await navigator.clipboard.writeText(await h.text(r.from, r.to));
    } catch (e) {
      return say(`Not copied. ${e instanceof Error ? e.message : String(e)}`);
    }
    say(r.to > r.from ? `Lines ${r.from} to ${r.to} copied.` : `Line ${r.from} copied.`);
  };
  const nextError = async () => {
    const at = await handle.current?.nextStderr((view.current?.topRow ?? -1) + 8);
    const row = at !== undefined && at >= 0 ? at : await handle.current?.nextStderr(0);
    if (row === undefined || row < 0) say("Nothing was written to stderr.");
    else view.current?.goTo(row);
  };
  const goJump = async (text: string) => {
    const to = parseJump(text, run?.startedAt ?? status?.startedAt ?? 0);
    const h = handle.current;
    if (!to || !h) return say("A line number, or a time such as 14:03 or +90s.");
    setJump(undefined);
    if (to.line !== undefined) {
      view.current?.goTo(await h.rowOfLine(to.line - 1));
      if (!merged) go({ ...route, from: to.line, to: to.line, run: run?.run ?? route.run }, true);
    } else if (to.at !== undefined) {
      view.current?.goTo(await h.rowOfTime(to.at));
    }
    view.current?.scroller.focus();
  };
  const toggleFollow = () => view.current?.setFollow(!live.current.follow.on);

  useEffect(() => {
    const on = (e: KeyboardEvent) => {
      if ((e.ctrlKey || e.metaKey) && e.key === "f" && !e.shiftKey) {
        e.preventDefault();
        input.current?.focus();
        input.current?.select();
        return;
      }
      if (typing(e) || e.ctrlKey || e.metaKey || e.altKey) return;
      if (e.key === "/") input.current?.focus();
      else if (e.key === "n") step(1);
      else if (e.key === "N") step(-1);
      else if (e.key === "g") setJump("");
      else if (e.key === "f") toggleFollow();
      else if (e.key === "e") void nextError();
      else if (e.key === "s") setStderr((s) => !s);
      else if (e.key === "w") p.change({ wrap: !settings.wrap });
      else if (e.key === "t") p.change({ time: times[(times.indexOf(settings.time) + 1) % times.length]! });
      else if (e.key === "c") void copy();
      else if (e.key === "Escape") {
        setQuery((q) => ({ ...q, text: "" }));
        setJump(undefined);
        if (route.from > 0) go({ ...route, from: 0, to: 0 }, true);
      } else return;
      e.preventDefault();
    };
    // Ctrl+C without a selection copies the lines that are chosen.
    const onCopy = () => {
      if (getSelection()?.isCollapsed && route.from > 0 && !(document.activeElement instanceof HTMLInputElement)) void copy();
    };
    addEventListener("keydown", on);
    addEventListener("copy", onCopy);
    return () => {
      removeEventListener("keydown", on);
      removeEventListener("copy", onCopy);
    };
  });

  useEffect(() => {
    if (said === "") return undefined;
    const t = setTimeout(() => say(""), 4000);
    return () => clearTimeout(t);
  }, [said]);

  const loading = status && !merged && !status.live && (status.count === 0 || status.loaded < status.lines) && p.runs[0]?.run === run?.run;
  return (
    <section class="panel">
      {run && <RunHead {...p} run={run} now={now} status={status} />}
      <div class="tools" key="tools" role="toolbar" aria-label="Log">
        <div class={`search${found.error ? " bad" : ""}`}>
          <input
            ref={input}
            type="search"
            placeholder="Search all  ( / )"
            aria-label="Search the log"
            value={query.text}
            onFocus={() => model.bridge.warm()}
            onInput={(e) => {
              const text = e.currentTarget.value;
              setFound((f) => ({ ...f, at: -1 }));
              setQuery((q) => ({ ...q, text }));
            }}
            onKeyDown={(e) => {
              if (e.key === "Enter") step(e.shiftKey ? -1 : 1);
              else if (e.key === "Escape") {
                setQuery((q) => ({ ...q, text: "" }));
                view.current?.scroller.focus();
              } else return;
              e.preventDefault();
              e.stopPropagation();
            }}
          />
          <Toggle on={query.matchCase} label="Aa" hint="Upper and lower case differ" onClick={() => setQuery((q) => ({ ...q, matchCase: !q.matchCase }))} />
          <Toggle on={query.regexp} label=".*" hint="Regular expression" onClick={() => setQuery((q) => ({ ...q, regexp: !q.regexp }))} />
          <span class="hits" role="status" aria-live="polite">
            {found.error !== "" ? found.error : query.text === "" ? "" : found.busy && found.rows.length === 0 ? "searching…" : found.hits === 0 ? "no hit" : `${found.at >= 0 ? `${found.at + 1} of ` : ""}${found.hits.toLocaleString("en")} ${found.hits === 1 ? "hit" : "hits"}`}
          </span>
          {found.rows.length > 0 && (
            <>
              <button type="button" aria-label="Previous hit" title="Previous hit ( N )" onClick={() => step(-1)}>
                ↑
              </button>
              <button type="button" aria-label="Next hit" title="Next hit ( n )" onClick={() => step(1)}>
                ↓
              </button>
            </>
          )}
        </div>
        <div class="actions">
          {jump === undefined ? (
            <button type="button" title="Go to a line or a time ( g )" onClick={() => setJump("")}>
              Go to…
            </button>
          ) : (
            <input
              class="jump"
              type="text"
              ref={(el) => el?.focus()}
              placeholder="line, 14:03, +90s"
              aria-label="Line number or time"
              value={jump}
              onInput={(e) => setJump(e.currentTarget.value)}
              onBlur={() => setJump(undefined)}
              onKeyDown={(e) => {
                if (e.key === "Enter") void goJump(e.currentTarget.value);
                else if (e.key === "Escape") setJump(undefined);
                else return;
                e.preventDefault();
                e.stopPropagation();
              }}
            />
          )}
          <Toggle on={stderr} label="stderr only" hint="Only what was written to stderr ( s )" onClick={() => setStderr(!stderr)} />
          <Toggle on={settings.wrap} label="Wrap" hint="Wrap long lines ( w )" onClick={() => p.change({ wrap: !settings.wrap })} />
          <select aria-label="Times" value={settings.time} title="When each line came ( t )" onChange={(e) => p.change({ time: e.currentTarget.value as TimeStyle })}>
            {times.map((t) => (
              <option key={t} value={t}>
                {timeWords[t]}
              </option>
            ))}
          </select>
          {route.from > 0 && !merged && (
            <button type="button" title="Copy the chosen lines ( c )" onClick={() => void copy()}>
              Copy {route.to > route.from ? `${route.to - route.from + 1} lines` : "line"}
            </button>
          )}
          {run && (
            <select
              class="menu"
              value=""
              aria-label="Download the log"
              onChange={(e) => {
                const how = e.currentTarget.value;
                e.currentTarget.value = "";
                void download(p.api, p.task, run, how === "plain", say);
              }}
            >
              <option value="">Download</option>
              <option value="raw">as written</option>
              <option value="plain">plain text, without colours</option>
            </select>
          )}
        </div>
      </div>
      <div class="log-host" key="log" ref={host}>
        {status && status.count === 0 && (
          <p class="empty over">{stderr ? "Nothing was written to stderr." : loading ? "Loading…" : merged ? "Nothing yet. Attach clients on the left." : ended ? "It ended without a word." : "No output yet."}</p>
        )}
        {!follow.on && !ended && (
          <button type="button" class="behind" onClick={() => view.current?.setFollow(true)}>
            ↓ {follow.behind > 0 ? `${follow.behind.toLocaleString("en")} new ${follow.behind === 1 ? "line" : "lines"}` : "Follow"}
          </button>
        )}
      </div>
      <footer class="foot">
        <span role="status" aria-live="polite">
          {said || (loading ? "loading…" : "")}
        </span>
        <span class="space" />
        {status && !merged && (
          <span class="muted">
            {status.lines.toLocaleString("en")} {status.lines === 1 ? "line" : "lines"} · {bytesText(status.bytes)}
          </span>
        )}
        {!ended && <Toggle on={follow.on} label={follow.on ? "following" : "not following"} hint="Follow the end ( f )" onClick={toggleFollow} />}
      </footer>
    </section>
  );
}

/** What marks the hits in the rows that are shown. */
function marker(query: Query, h: LogHandle): Marker {
  const key = JSON.stringify(query);
  return query.regexp ? { key, ask: (texts) => h.marks(query, texts) } : { key, plain: expression(query) };
}

function RunHead(p: LogPanelProps & { run: ApiRun; now: number; status: Status | undefined }) {
  const { run, client, route, go, settings } = p;
  const m = mood(run);
  const [loaded, setLoaded] = useState(false);
  const more = async () => {
    if (loaded || !client) return;
    setLoaded(true);
    try {
      const asked = performance.now();
      p.model.addRuns(client.id, await listRuns(p.api, p.task, client.id), asked);
    } catch {
      setLoaded(false);
    }
  };
  const latest = p.runs[0]?.run === run.run;
  const notify = async () => {
    if (!settings.notify && "Notification" in window && Notification.permission !== "granted") {
      if ((await Notification.requestPermission()) !== "granted") return;
    }
    p.change({ notify: !settings.notify });
  };
  return (
    <header class="run">
      <div class="run-line">
        <Light mood={m} isIn={client?.in ?? false} />
        <h1>{name(run.client)}</h1>
        <span class={`badge ${m}`} role="status">
          {ending(run)}
        </span>
        {run.startedAt > 0 && <span title={`started ${moment(run.startedAt)}`}>{duration((run.endedAt || p.now) - run.startedAt)}</span>}
        {run.host !== "" && run.host !== run.client && <span class="muted">on {run.host}</span>}
        {run.startedAt > 0 && <span class="muted">started {moment(run.startedAt)}</span>}
        <span class="space" />
        <label class="pick">
          <span>Run</span>
          <select aria-label="Run" value={run.run} onFocus={() => void more()} onPointerDown={() => void more()} onChange={(e) => go({ ...route, run: e.currentTarget.value === p.runs[0]?.run ? "" : e.currentTarget.value, from: 0, to: 0 })}>
            {p.runs.map((r, i) => (
              <option key={r.run} value={r.run}>
                {i === 0 ? "latest" : moment(r.startedAt) || r.run} · {ending(r)}
              </option>
            ))}
          </select>
        </label>
        {!over(run.state) && "Notification" in window && <Toggle on={settings.notify} label="Notify" hint="Tell me when it ends" onClick={() => void notify()} />}
      </div>
      {run.cmd !== "" && (
        <p class="cmd">
          <span class="muted" aria-hidden="true">
            ${" "}
          </span>
          {run.cmd}
        </p>
      )}
      {m === "lost" && <p class="warn">The connection to this client was lost. What it sends when it comes back appears here.</p>}
      {m === "detached" && <p class="warn">The connection to this client is lost. Its command may still run; what it sends later appears here.</p>}
      {!latest && (
        <p class="warn">
          This is an earlier run.{" "}
          <button type="button" class="link-like" onClick={() => go({ ...route, run: "", from: 0, to: 0 })}>
            Show the latest
          </button>
        </p>
      )}
    </header>
  );
}
