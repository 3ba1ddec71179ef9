// One run as a viewer has it: its output, laid out, each record exactly once, and what is known of how it goes.

import type { DataEvent, EofEvent, GapEvent, RunState, StartEvent, WireRecord } from "../wire.ts";
import { bytesText } from "../words.ts";
import { Layout } from "./layout.ts";

const encoder = new TextEncoder();
/** Where text is encoded before it is laid out, which copies it: a new array for each record would be as much garbage as there is log. */
let scratch = new Uint8Array(64 << 10);

export interface RunInfo {
  from: string;
  run: string;
  cmd: string;
  host: string;
  startedAt: number;
  endedAt: number;
  state: RunState;
  code: number | null;
  signal: string | null;
  message: string;
}

export class RunLog {
  layout = new Layout();
  readonly info: RunInfo;
  /** Seq of the last record taken. */
  seq = 0;
  /** Output taken, in bytes. */
  bytes = 0;
  /** True once the history has been sent. */
  live = false;
  /** Counts changes, so that who shows the log knows when to look again. */
  version = 0;
  /** Changes when rows get other numbers or contents than they had. */
  epoch = 0;
  /** Output taken and records seen twice or missing, for the tests' eyes and ours. */
  duplicates = 0;
  missing = 0;
  /** A start, an end or a gap came: such records have a seq, and are no data. */
  private skips = 1;

  constructor(from: string, run: string) {
    this.info = { from, run, cmd: "", host: "", startedAt: 0, endedAt: 0, state: "running", code: null, signal: null, message: "" };
  }

  start(e: StartEvent): void {
    this.skips++;
    this.version++;
    const { info } = this;
    info.cmd = text(e.task?.cmd);
    info.host = text(e.task?.host);
    info.startedAt = Number(e.startedAt) || info.startedAt;
    if (e.state && info.code === null) info.state = e.state;
  }

  take(e: DataEvent): void {
    this.version++;
    for (const r of e.data) {
      if (r.seq <= this.seq) {
        this.duplicates++;
        continue;
      }
      const missing = this.seq === 0 ? 0 : r.seq - this.seq - 1;
      // Where something is missing, and where we began in the middle, the gateway knows the number of the line.
      if (e.line !== undefined && r === e.data[0]) this.layout.lines = e.line;
      if (missing > this.skips) {
        this.missing += missing - this.skips;
        this.layout.note(missing === 1 ? "A record is missing here." : `${missing} records are missing here.`, true, r.at);
      }
      this.skips = 0;
      this.seq = r.seq;
      this.bytes += addRecord(this.layout, r);
    }
  }

  gap(e: GapEvent): void {
    this.version++;
    if (e.toSeq <= this.seq) return;
    const size = typeof e.bytes === "number" ? ` (${bytesText(e.bytes)})` : "";
    const why = e.reason === "retention" ? "is past the retention limit and was deleted" : "was dropped by the client, which was cut off for too long";
    this.layout.note(`Output${size} ${why}.`, true, 0);
    this.seq = Math.max(this.seq, e.toSeq);
    this.skips = 0;
  }

  eof(e: EofEvent): void {
    this.skips++;
    this.version++;
    const { info } = this;
    info.code = typeof e.code === "number" ? e.code : null;
    info.signal = typeof e.signal === "string" ? e.signal : null;
    info.message = text(e.message);
    info.state = e.code === 999 && info.message !== "" ? "lost" : "exited";
  }

  state(state: RunState, code?: number | null, signal?: string | null): void {
    this.version++;
    this.info.state = state;
    if (state === "running" || state === "detached") this.info.code = null;
    if (typeof code === "number") this.info.code = code;
    if (typeof signal === "string") this.info.signal = signal;
  }
}

/** Lays a record out. Returns its bytes of output. */
export function addRecord(layout: Layout, r: WireRecord): number {
  if (r.type === "NOTE") {
    layout.note(noteText(r), true, r.at);
    return 0;
  }
  if (r.type === "GAP") {
    layout.note("Output is missing here.", true, r.at ?? 0);
    return 0;
  }
  const bytes = payload(r);
  layout.feed(bytes, r.type === "STDERR", r.at);
  return bytes.length;
}

/** A record's bytes, good until the next call. Payloads of old clients that are no text are shown as their JSON, a line each. */
function payload(r: WireRecord): Uint8Array {
  if (r.b64 !== undefined) return decodeBase64(r.b64);
  if (r.data === undefined) return scratch.subarray(0, 0);
  return encode(typeof r.data === "string" ? r.data : JSON.stringify(r.data) + "\n");
}

/** The text's bytes, good until the next call. */
function encode(s: string): Uint8Array {
  if (scratch.length < s.length * 3) scratch = new Uint8Array(s.length * 3);
  return scratch.subarray(0, encoder.encodeInto(s, scratch).written);
}

function decodeBase64(s: string): Uint8Array {
  const raw = atob(s);
  const b = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) b[i] = raw.charCodeAt(i);
  return b;
}

function noteText(r: WireRecord): string {
  if (r.lost) return `${bytesText(r.lost.bytes)} of output were dropped by the client, which was cut off for too long.`;
  return typeof r.data === "string" && r.data !== "" ? r.data : "A note without text.";
}

function text(v: unknown): string {
  return typeof v === "string" ? v : "";
}
