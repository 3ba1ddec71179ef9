// What the page knows of a task: its clients, their runs, and how the connection stands. Views listen to it.

import type { Api, ApiRun } from "../api.ts";
import { listClients } from "../api.ts";
import type { RunInfo } from "../log/run.ts";
import { Bridge } from "../worker/bridge.ts";
import type { History, RunState } from "../wire.ts";

export type Mood = "running" | "passed" | "failed" | "detached" | "lost" | "unknown";

export interface Client {
  id: string;
  /** Connected now, as far as is known. */
  in: boolean;
  /** The newest first. */
  runs: ApiRun[];
  /** The last line of output that came. */
  last: string;
  attached: boolean;
}

export type Link = { state: "connecting" | "online" } | { state: "offline"; since: number } | { state: "refused"; code: string; message: string };

/** A client list is read anew this long after something was heard, and at the latest every `refresh` ms. */
const soon = 250;
const refresh = 5000;
/** Views hear of changes no more often than this, in ms. */
const pause = 150;
/** A list that could not be read is said to be so from this failure on: one alone is soon made good. */
const failuresSaid = 2;
/** Runs of one client that are remembered. */
const keptRuns = 50;

export class TaskModel {
  readonly clients = new Map<string, Client>();
  link: Link = { state: "connecting" };
  loaded = false;
  error = "";
  problem = "";
  readonly bridge: Bridge;
  private readonly listeners = new Set<() => void>();
  private readonly ends = new Set<(r: ApiRun) => void>();
  /** When the end of a run was heard of, by performance.now(): a list that was asked for before does not know of it. */
  private readonly endedAt = new Map<string, number>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private frame = 0;
  private failures = 0;
  private told = -pause;
  private closed = false;

  constructor(
    readonly task: string,
    token: string,
    private readonly api: Api,
  ) {
    this.bridge = new Bridge((e) => {
      if (e.t === "online") this.link = { state: "online" };
      else if (e.t === "offline") {
        if (this.link.state === "online" || this.link.state === "connecting") this.link = { state: "offline", since: Date.now() };
      } else if (e.t === "refused") this.link = { state: "refused", code: e.code, message: e.message };
      else if (e.t === "problem") this.problem = e.problem.message;
      else if (e.t === "in" || e.t === "out") {
        this.client(e.from).in = e.t === "in";
        this.loadSoon(soon);
      } else if (e.t === "deleted") {
        const c = this.client(e.from);
        c.runs = c.runs.filter((r) => r.run !== e.run);
        if (c.runs.length === 0 && !c.in) this.clients.delete(e.from);
      } else if (e.t === "runs") this.takeRuns(e.runs, e.last);
      // What was missed meanwhile; at first the list is under way already.
      if (e.t === "online" && (this.loaded || this.error !== "")) this.loadSoon(this.loaded ? soon : 0);
      this.changed();
    });
    this.bridge.tell({ t: "connect", url: location.origin, token, task });
    void this.load();
  }

  /** Hears of changes, together where they come fast. */
  listen(f: () => void): () => void {
    this.listeners.add(f);
    return () => this.listeners.delete(f);
  }

  /** Hears of runs that end while the page looks on. */
  onEnd(f: (r: ApiRun) => void): () => void {
    this.ends.add(f);
    return () => this.ends.delete(f);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.bridge.close();
  }

  client(id: string): Client {
    let c = this.clients.get(id);
    if (!c) this.clients.set(id, (c = { id, in: false, runs: [], last: "", attached: false }));
    return c;
  }

  attach(ids: string[], history: History): void {
    const fresh = ids.filter((id) => !this.client(id).attached);
    if (fresh.length === 0) return;
    for (const id of fresh) this.client(id).attached = true;
    this.bridge.tell({ t: "attach", ids: fresh, history });
    this.changed();
  }

  detach(ids: string[]): void {
    const known = ids.filter((id) => this.client(id).attached);
    if (known.length === 0) return;
    for (const id of known) this.client(id).attached = false;
    this.bridge.tell({ t: "detach", ids: known });
    this.changed();
  }

  private changed(): void {
    if (this.frame || this.closed) return;
    this.frame = window.setTimeout(() => this.tell(), Math.max(0, this.told + pause - performance.now()));
  }

  private tell(): void {
    clearTimeout(this.frame);
    this.frame = 0;
    this.told = performance.now();
    if (!this.closed) for (const f of this.listeners) f();
  }

  private takeRuns(runs: RunInfo[], last: { [run: string]: string }): void {
    for (const r of runs) {
      const c = this.client(r.from);
      const old = c.runs.find((x) => x.run === r.run);
      const known = old ?? blankRun(r.from, r.run);
      if (!old) c.runs.unshift(known);
      const ended = !over(known.state) && over(r.state) && known.startedAt > 0;
      known.state = r.state;
      // The end is told in several ways, and some say less than others.
      known.code = r.code ?? (over(r.state) ? known.code : null);
      known.signal = r.signal || (over(r.state) ? known.signal : "");
      known.message = r.message;
      if (r.startedAt) known.startedAt = r.startedAt;
      if (r.cmd) known.cmd = r.cmd;
      if (r.host) known.host = r.host;
      if (over(r.state) && !known.endedAt) known.endedAt = ended ? Date.now() : 0;
      if (!over(r.state)) known.endedAt = 0;
      c.last = last[r.run] || c.last;
      order(c);
      if (ended) {
        this.endedAt.set(r.run, performance.now());
        for (const f of this.ends) f(known);
        this.loadSoon(soon);
      }
    }
  }

  private loadSoon(ms: number): void {
    if (this.closed) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.load(), ms);
  }

  private async load(): Promise<void> {
    try {
      const asked = performance.now();
      const runs = await listClients(this.api, this.task);
      for (const r of runs) this.merge(r.run, r.in, asked);
      this.error = this.problem = "";
      this.failures = 0;
      const first = !this.loaded;
      this.loaded = true;
      // What is to be attached is known now, and everything waits for that.
      if (first) this.tell();
    } catch (e) {
      // That there is no connection stands in the bar already.
      if (!this.loaded || (++this.failures >= failuresSaid && this.link.state === "online")) this.error = e instanceof Error ? e.message : String(e);
    }
    this.changed();
    this.loadSoon(document.hidden ? refresh * 6 : refresh);
  }

  private merge(r: ApiRun, isIn: boolean, asked: number): void {
    const c = this.client(r.client);
    if (!over(r.state) && (this.endedAt.get(r.run) ?? -1) >= asked) return;
    c.in = isIn;
    const old = c.runs.find((x) => x.run === r.run);
    if (old?.lines !== r.lines) this.bridge.tell({ t: "total", run: r.run, lines: r.lines });
    if (old) Object.assign(old, r);
    else c.runs.push(r);
    order(c);
  }

  /** Earlier runs of a client, as the list has them that was asked for at `asked`, by performance.now(). */
  addRuns(id: string, runs: ApiRun[], asked: number): void {
    const c = this.client(id);
    for (const r of runs) this.merge(r, c.in, asked);
    this.changed();
  }
}

function order(c: Client): void {
  c.runs.sort((a, b) => b.startedAt - a.startedAt);
  if (c.runs.length > keptRuns) c.runs.length = keptRuns;
}

function blankRun(client: string, run: string): ApiRun {
  return { run, client, state: "running", startedAt: 0, endedAt: 0, code: null, signal: "", message: "", cmd: "", host: "", bytes: 0, lines: 0 };
}

export function over(state: string): boolean {
  return state === "exited" || state === "lost";
}

/** How a run is doing, in one word. */
export function mood(r: ApiRun | undefined): Mood {
  if (!r) return "unknown";
  const s = r.state as RunState;
  if (s === "running" || s === "suspect") return "running";
  if (s === "detached") return "detached";
  if (s === "lost") return "lost";
  return r.code === 0 && !r.signal ? "passed" : "failed";
}

/** How a run ended or that it goes on, in a few words. */
export function ending(r: ApiRun | undefined): string {
  switch (mood(r)) {
    case "running":
      return r!.state === "suspect" ? "running, server quiet" : "running";
    case "detached":
      return "connection lost, waiting";
    case "lost":
      return "connection lost";
    case "passed":
      return "exit 0";
    case "failed":
      return r!.signal ? `ended by ${r!.signal}` : r!.code === null ? "ended" : `exit ${r!.code}`;
    default:
      return "no run yet";
  }
}

/** Failed first, then what runs, then what went well. */
export function rank(c: Client): number {
  return { failed: 0, lost: 1, detached: 2, running: 3, passed: 4, unknown: 5 }[mood(c.runs[0])];
}
