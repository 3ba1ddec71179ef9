// The connection to a gateway: which clients are attached, how far each run has come, and how to go on after a break, on
// whatever gateway answers then. It knows nothing of what the bytes mean.

import { io, type Socket } from "socket.io-client";
import type { DataEvent, EofEvent, GapEvent, History, LiveEvent, Problem, StartEvent, StateEvent } from "../wire.ts";

/** What the connection tells its owner. `offline` gives the reason; `refused` is final. */
export interface Listener {
  online(): void;
  offline(why: string): void;
  refused(code: string, message: string): void;
  workerIn(from: string): void;
  workerOut(from: string): void;
  start(e: StartEvent): void;
  data(e: DataEvent): void;
  eof(e: EofEvent): void;
  gap(e: GapEvent): void;
  live(e: LiveEvent): void;
  state(e: StateEvent): void;
  problem(e: Problem): void;
}

const final = new Set(["token_missing", "token_invalid", "token_expired", "token_revoked", "wrong_endpoint", "expired", "revoked"]);

/** Times between two tries to connect, in ms, each varied by half: the first gateway that answers will do, and a page has one connection. */
const tryAgain = 100;
const tryAgainMost = 2000;
/**
 * A gateway that does not answer for so long, in ms, is stopped or cut off, and another one may be reached. As it may be the
 * line that is slow, each try has twice as long as the one before.
 */
const answerWithin = 2500;
const answerWithinMost = 20_000;

/** Ids in one attach, so that a packet stays far below every limit. */
const attachAtOnce = 200;

export class Connection {
  private readonly socket: Socket;
  private readonly attached = new Map<string, History>();
  /** By client, then by run. */
  private readonly cursors = new Map<string, Map<string, string>>();
  private ready = false;
  /** The client that was attached in the greeting. */
  private greeted: string | null = null;
  private over = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    url: string,
    private readonly token: string,
    private readonly task: string,
    private readonly to: Listener,
  ) {
    this.socket = io(url, { transports: ["websocket", "polling"], reconnectionDelay: tryAgain, reconnectionDelayMax: tryAgainMost, timeout: answerWithin, autoConnect: false });
    const s = this.socket;
    s.on("connect", () => {
      s.io.timeout(answerWithin);
      this.hello();
    });
    s.on("connect_error", (e) => {
      s.io.timeout(Math.min(answerWithinMost, 2 * Number(s.io.timeout())));
      this.lost(e.message);
    });
    s.on("disconnect", (why) => this.lost(why));
    s.on("authenticated", (m) => this.authenticated(m ?? {}));
    s.on("workerIn", (m) => to.workerIn(m.from));
    s.on("workerOut", (m) => to.workerOut(m.from));
    s.on("start", (m: StartEvent) => this.moved(m, () => to.start(m)));
    s.on("data", (m: DataEvent) => this.moved(m, () => to.data(m)));
    s.on("eof", (m: EofEvent) => this.moved(m, () => to.eof(m)));
    s.on("gap", (m: GapEvent) => this.moved(m, () => to.gap(m)));
    s.on("live", (m: LiveEvent) => this.moved(m, () => to.live(m)));
    s.on("state", (m: StateEvent) => to.state(m));
    s.on("problem", (m: Problem) => this.problem(m));
    s.connect();
  }

  attach(ids: string[], history: History): void {
    const fresh = ids.filter((id) => !this.attached.has(id));
    for (const id of fresh) this.attached.set(id, history);
    if (this.ready) this.sendAttach(fresh);
  }

  detach(ids: string[]): void {
    const known = ids.filter((id) => this.attached.delete(id));
    if (this.ready && known.length > 0) this.socket.emit("detach", { from: known });
  }

  has(id: string): boolean {
    return this.attached.has(id);
  }

  /** Forgets how far a run has come, as its log was let go. */
  forget(from: string, run: string): void {
    this.cursors.get(from)?.delete(run);
  }

  close(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.socket.disconnect();
  }

  private hello(): void {
    // What is wanted already goes along, which saves a round trip. `from` may not be empty; a null is taken out by the server.
    const [id, history] = [...this.attached][0] ?? [null, "all"];
    this.greeted = this.cursors.size === 0 ? id : null;
    this.socket.emit("authenticate", { type: "browser_token", token: this.token, v: 2, watch: { task: this.task, from: [this.greeted], history, batch: true } });
  }

  private authenticated(m: { error?: string; code?: string; retryMs?: number }): void {
    if (m.error !== undefined) {
      if (m.code === "busy") return this.connectIn(m.retryMs ?? 1000);
      this.stop(m.code ?? "token_invalid", m.error);
      return;
    }
    this.ready = true;
    this.to.online();
    const { greeted } = this;
    this.sendAttach([...this.attached.keys()].filter((id) => id !== greeted));
    // It was detached before the answer came.
    if (greeted !== null && !this.attached.has(greeted)) this.socket.emit("detach", { from: [greeted] });
  }

  /** Attaches, by what history each wants, behind the places that are known. */
  private sendAttach(ids: string[]): void {
    const groups = new Map<string, { history: History; ids: string[] }>();
    for (const id of ids) {
      const history = this.attached.get(id) ?? "all";
      const key = JSON.stringify(history);
      const g = groups.get(key) ?? { history, ids: [] };
      g.ids.push(id);
      groups.set(key, g);
    }
    for (const { history, ids } of groups.values()) {
      for (let i = 0; i < ids.length; i += attachAtOnce) {
        const from = ids.slice(i, i + attachAtOnce);
        const after: { [id: string]: string[] } = Object.create(null);
        for (const id of from) {
          const known = this.cursors.get(id);
          if (known && known.size > 0) after[id] = [...known.values()];
        }
        this.socket.emit("attach", { from, history, after, batch: true });
      }
    }
  }

  private moved(m: { from: string; run: string; cursor: string }, then: () => void): void {
    then();
    if (typeof m.cursor !== "string" || typeof m.run !== "string") return;
    let runs = this.cursors.get(m.from);
    if (!runs) this.cursors.set(m.from, (runs = new Map()));
    runs.set(m.run, m.cursor);
  }

  private problem(m: Problem): void {
    if (m.code === "bad_cursor" && m.from !== undefined) this.cursors.delete(m.from);
    if (final.has(m.code)) this.stop(m.code, m.message);
    else this.to.problem(m);
  }

  private stop(code: string, message: string): void {
    this.over = true;
    this.ready = false;
    this.to.refused(code, message);
    this.socket.disconnect();
  }

  private lost(why: string): void {
    this.ready = false;
    if (this.over) return;
    this.to.offline(why);
    // The library does not reconnect by itself after the server has ended the connection. A gateway that is stopped does
    // that, and another one will answer; one that refuses the token says so first.
    if (why === "io server disconnect") this.connectIn(tryAgain);
  }

  /** Leaves a gateway that cannot serve us now, and connects after so many ms. */
  private connectIn(ms: number): void {
    this.socket.disconnect();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.socket.connect(), ms * (0.5 + Math.random()));
  }
}
