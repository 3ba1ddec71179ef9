// What the page and its worker say to each other.

import type { History, Problem } from "../wire.ts";
import type { RunInfo } from "../log/run.ts";

/** A stretch of a row: text, colours, flags and where it leads. */
export type RowSpan = [text: string, fg: number, bg: number, flags: number, href?: string];

/** A row ready to be shown. */
export interface Row {
  row: number;
  /** Number of the line, from 1 on; 0 where the row is none of the log's. */
  line: number;
  at: number;
  flags: number;
  spans: RowSpan[];
  /** Size of the whole row in bytes, where only its beginning is here; else 0. */
  clipped: number;
  /** In a merged log, whose row it is. */
  from?: string;
}

/** What a view shows. */
export type Spec =
  | { kind: "run"; from: string; run: string; stderr: boolean }
  | { kind: "merged"; stderr: boolean };

/** How a view's log stands. Rows run from `first` to `count`; those before `stable` do not change while `epoch` stays. */
export interface Status {
  view: number;
  first: number;
  count: number;
  stable: number;
  epoch: number;
  bytes: number;
  lines: number;
  held: number;
  /** Lines that have come over the connection. */
  loaded: number;
  live: boolean;
  startedAt: number;
  /** The last rows, for a view that follows; the first ones, with the first status. */
  tail: Row[];
}

export interface Query {
  text: string;
  matchCase: boolean;
  regexp: boolean;
}

/** What a search found: the rows that match, in order, and how often in all. */
export interface Found {
  rows: number[];
  hits: number;
  /** Rows beyond the limit are counted, not listed. */
  more: boolean;
  /** The expression takes too long for the browser, or is none of its: it runs nowhere on the page. */
  slow: boolean;
  /** Why there is nothing, in a few words. */
  error?: string;
}

/** What the log's worker hands to the seeker: rows, that they come anew, that this was all. */
export type Piece = { t: "rows"; bytes: Uint8Array; first: number } | { t: "again" } | { t: "end" };

/** The seeker's answer to each piece. The rows are listed in the last one. */
export interface Sought {
  rows: number[];
  hits: number;
  more: boolean;
}

export type ToSeeker = { t: "find"; query: Query; port: MessagePort } | { t: "mark"; ask: number; query: Query; texts: string[] };

export interface FromSeeker {
  ask: number;
  /** For each text where it matches. */
  ranges: [number, number][][];
}

export type ToWorker =
  | { t: "connect"; url: string; token: string; task: string }
  | { t: "attach"; ids: string[]; history: History }
  | { t: "detach"; ids: string[] }
  | { t: "total"; run: string; lines: number }
  | { t: "open"; view: number; spec: Spec }
  | { t: "close"; view: number }
  | { t: "follow"; view: number; rows: number }
  | { t: "rows"; ask: number; view: number; from: number; to: number; whole: boolean }
  | { t: "lines"; ask: number; view: number; from: number; to: number }
  | { t: "line"; ask: number; view: number; line: number }
  | { t: "time"; ask: number; view: number; at: number }
  | { t: "stderr"; ask: number; view: number; after: number }
  | { t: "find"; ask: number; view: number; query: Query; port: MessagePort };

export type FromWorker =
  | { t: "online" }
  | { t: "offline"; why: string }
  | { t: "refused"; code: string; message: string }
  | { t: "problem"; problem: Problem }
  | { t: "in"; from: string }
  | { t: "out"; from: string }
  | { t: "deleted"; from: string; run: string }
  | { t: "runs"; runs: RunInfo[]; last: { [run: string]: string } }
  | { t: "status"; status: Status }
  /** The seeker takes too long and is to be ended. */
  | { t: "slow" }
  /** With `error`, in a few words, where there is no value. */
  | { t: "answer"; ask: number; value: unknown; error?: string };
