// What travels between page and gateway, as docs/protocol.md has it, and what the page makes of it.

export type RunState = "running" | "detached" | "exited" | "lost" | "suspect";

/** What of the past an attach asks for. */
export type History = "live" | "all" | "none" | { tail: number } | { run: string };

export interface WireRecord {
  seq: number;
  at: number;
  type: string;
  data?: unknown;
  b64?: string;
  lost?: { from: number; to: number; bytes: number };
}

export interface DataEvent {
  from: string;
  run: string;
  cursor: string;
  data: WireRecord[];
  /** Line feeds of the run before the first of these records, where the gateway says it. */
  line?: number;
}

export interface StartEvent {
  from: string;
  run: string;
  cursor: string;
  task?: { name?: string; cmd?: string; host?: string };
  startedAt?: number;
  state?: RunState;
}

export interface EofEvent {
  from: string;
  run: string;
  cursor: string;
  code?: number | null;
  signal?: string | null;
  message?: string;
}

export interface GapEvent {
  from: string;
  run: string;
  fromSeq: number;
  toSeq: number;
  bytes: number | null;
  reason: string;
  cursor: string;
  message?: string;
}

export interface LiveEvent {
  from: string;
  run: string;
  cursor: string;
}

export interface StateEvent {
  from: string;
  run: string;
  /** "deleted": the run is to be forgotten. */
  state: RunState | "deleted";
  code?: number | null;
  signal?: string | null;
}

export interface Problem {
  code: string;
  message: string;
  from?: string;
}
