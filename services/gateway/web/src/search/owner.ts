// The page's hold on the seeker: starts it when something is searched for, ends it when it takes too long, when another search
// begins, and when nothing was searched for in a while.

import type { FromSeeker, Query, ToSeeker } from "../worker/messages.ts";

declare const SEEKER: string;

/** Time after which an idle seeker is ended, and a seeker that does not answer, in ms. */
const idle = 3000;
const patience = 1000;

export type Ranges = [number, number][];

export class SeekerOwner {
  private worker: Worker | undefined;
  /** The search that runs. */
  private finding: object | undefined;
  private asked = 0;
  private readonly waiting = new Map<number, (r: Ranges[] | undefined) => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Begins a search: gives the end of the line for the log's worker, and what to call when it is over. A search that still runs is ended. */
  find(query: Query): { port: MessagePort; over: () => void } {
    if (this.finding) this.end();
    const { port1, port2 } = new MessageChannel();
    const me = {};
    this.finding = me;
    this.tell({ t: "find", query, port: port1 }, [port1]);
    const over = () => {
      if (this.finding !== me) return;
      this.finding = undefined;
      this.rest();
    };
    return { port: port2, over };
  }

  /** Where the query matches in each text; undefined where it could not be told. */
  marks(query: Query, texts: string[]): Promise<Ranges[] | undefined> {
    const ask = ++this.asked;
    return new Promise((done) => {
      const timer = setTimeout(() => this.end(), patience);
      this.waiting.set(ask, (r) => {
        clearTimeout(timer);
        this.waiting.delete(ask);
        done(r);
      });
      this.tell({ t: "mark", ask, query, texts });
    });
  }

  /** Ends the seeker, whatever it does. */
  end(): void {
    clearTimeout(this.timer);
    this.worker?.terminate();
    this.worker = undefined;
    this.finding = undefined;
    for (const done of [...this.waiting.values()]) done(undefined);
  }

  /** Starts the seeker, as something is about to be searched for. */
  warm(): void {
    this.start();
    this.rest();
  }

  private tell(m: ToSeeker, transfer: Transferable[] = []): void {
    clearTimeout(this.timer);
    this.start().postMessage(m, transfer);
  }

  private start(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(SEEKER, { type: "module" });
    worker.onmessage = (e: MessageEvent<FromSeeker>) => {
      this.waiting.get(e.data.ask)?.(e.data.ranges);
      this.rest();
    };
    return (this.worker = worker);
  }

  private rest(): void {
    clearTimeout(this.timer);
    if (!this.finding && this.waiting.size === 0) this.timer = setTimeout(() => this.end(), idle);
  }
}
