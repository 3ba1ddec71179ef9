// The page's end of the worker.

import { SeekerOwner, type Ranges } from "../search/owner.ts";
import type { FromWorker, Found, Query, Row, Spec, Status, ToWorker } from "./messages.ts";

declare const WORKER: string;

type Event = Exclude<FromWorker, { t: "answer" | "status" | "slow" }>;
type Ask = Extract<ToWorker, { ask: number }>;
type Question = Ask extends infer A ? (A extends Ask ? Omit<A, "ask"> : never) : never;

let early: Worker | undefined;

/** Starts the worker before anything else is done: it is there when the page asks for it. */
export function startEarly(): void {
  early ??= new Worker(WORKER, { type: "module" });
}

function takeWorker(): Worker {
  const worker = early ?? new Worker(WORKER, { type: "module" });
  early = undefined;
  return worker;
}

export class Bridge {
  private readonly worker = takeWorker();
  private readonly waiting = new Map<number, { done: (value: unknown) => void; fail: (e: Error) => void }>();
  private readonly views = new Map<number, (s: Status) => void>();
  private readonly seeker = new SeekerOwner();
  private asked = 0;
  private opened = 0;

  constructor(on: (e: Event) => void) {
    this.worker.onmessage = (e: MessageEvent<FromWorker>) => {
      const m = e.data;
      if (m.t === "answer") {
        const w = this.waiting.get(m.ask);
        if (m.error !== undefined) w?.fail(new Error(m.error));
        else w?.done(m.value);
        this.waiting.delete(m.ask);
      } else if (m.t === "status") {
        this.views.get(m.status.view)?.(m.status);
      } else if (m.t === "slow") {
        this.seeker.end();
      } else {
        on(m);
      }
    };
  }

  tell(m: Exclude<ToWorker, { ask: number }>): void {
    this.worker.postMessage(m);
  }

  private ask<T>(q: Question, transfer: Transferable[] = []): Promise<T> {
    const ask = ++this.asked;
    return new Promise((done, fail) => {
      this.waiting.set(ask, { done: done as (v: unknown) => void, fail });
      this.worker.postMessage({ ...q, ask }, transfer);
    });
  }

  /** Opens a log to be shown; `on` hears how it stands. */
  open(spec: Spec, on: (s: Status) => void): LogHandle {
    const view = ++this.opened;
    this.views.set(view, on);
    this.tell({ t: "open", view, spec });
    return {
      rows: (from, to, whole = false) => this.ask<Row[]>({ t: "rows", view, from, to, whole }),
      text: (from, to) => this.ask<string>({ t: "lines", view, from, to }),
      rowOfLine: (line) => this.ask<number>({ t: "line", view, line }),
      rowOfTime: (at) => this.ask<number>({ t: "time", view, at }),
      nextStderr: (after) => this.ask<number>({ t: "stderr", view, after }),
      find: async (query) => {
        const { port, over } = this.seeker.find(query);
        const found = await this.ask<Found>({ t: "find", view, query, port }, [port]);
        over();
        return found;
      },
      marks: (query, texts) => this.seeker.marks(query, texts),
      follow: (rows) => this.tell({ t: "follow", view, rows }),
      close: () => {
        this.views.delete(view);
        this.tell({ t: "close", view });
      },
    };
  }

  /** Somebody is about to search. */
  warm(): void {
    this.seeker.warm();
  }

  close(): void {
    this.seeker.end();
    this.worker.terminate();
  }
}

/** A log that is open in the worker. Rows are numbered as in Status. */
export interface LogHandle {
  rows(from: number, to: number, whole?: boolean): Promise<Row[]>;
  /** Lines `from` to `to`, counted from 1 and both included, as clean text. */
  text(from: number, to: number): Promise<string>;
  rowOfLine(line: number): Promise<number>;
  rowOfTime(at: number): Promise<number>;
  nextStderr(after: number): Promise<number>;
  /** Searches the whole log. An earlier search that is not over ends, and never answers. */
  find(query: Query): Promise<Found>;
  /** Where a query matches in each of these texts; undefined where that cannot be told. */
  marks(query: Query, texts: string[]): Promise<Ranges[] | undefined>;
  /** Asks for the last rows with every status; 0 for none. */
  follow(rows: number): void;
  close(): void;
}
