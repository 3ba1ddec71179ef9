// The log's worker's end of the line to the seeker.

import type { Piece, Sought } from "../worker/messages.ts";
import { patience, Slow, type Seeker } from "./search.ts";

/** One search. `slow` hears that a piece takes too long; whoever owns the seeker then ends it. */
export class SeekerLine implements Seeker {
  private done: ((s: Sought) => void) | undefined;
  private fail: ((e: Error) => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly port: MessagePort,
    private readonly slow: () => void,
  ) {
    port.onmessage = (e: MessageEvent<Sought>) => this.done?.(e.data);
  }

  take(p: Piece): Promise<Sought> {
    return new Promise((done, fail) => {
      const late = () => {
        fail(new Slow());
        this.slow();
      };
      // Looked at twice: when the timer was late, as we were busy ourselves, the answer waits behind it.
      this.timer = setTimeout(() => (this.timer = setTimeout(late, 100)), patience);
      this.fail = fail;
      this.done = (s) => {
        clearTimeout(this.timer);
        done(s);
      };
      this.port.postMessage(p, p.t === "rows" ? [p.bytes.buffer as ArrayBuffer] : []);
    });
  }

  /** Ends the search; a piece that is under way is not waited for. */
  close(): void {
    clearTimeout(this.timer);
    this.port.close();
    this.fail?.(new Error("another search began"));
  }
}
