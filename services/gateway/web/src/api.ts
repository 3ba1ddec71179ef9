// The read API, as docs/api.md has it.

export interface ApiTask {
  task: string;
  clients: number;
  in: number;
  /** Clients whose latest run failed. */
  failed: number;
  runs: number;
  state: string;
  startedAt: number;
  endedAt: number;
  code: number | null;
  signal: string;
}

export interface ApiRun {
  run: string;
  client: string;
  state: string;
  startedAt: number;
  endedAt: number;
  code: number | null;
  signal: string;
  message: string;
  cmd: string;
  host: string;
  bytes: number;
  lines: number;
}

/** An answer that is not the one hoped for. `status` is 0 where there was none at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export class Api {
  constructor(private readonly token: string) {}

  async get(path: string, signal?: AbortSignal): Promise<Response> {
    let r: Response;
    const init: RequestInit = { headers: { Authorization: `Bearer ${this.token}` }, cache: "no-store" };
    if (signal) init.signal = signal;
    try {
      r = await fetch(`/api/v1${path}`, init);
    } catch (e) {
      if (signal?.aborted) throw e;
      throw new ApiError(0, "The server cannot be reached.");
    }
    if (!r.ok) throw new ApiError(r.status, await sentence(r));
    return r;
  }
}

async function sentence(r: Response): Promise<string> {
  try {
    const m = (await r.json()) as { detail?: unknown };
    if (typeof m.detail === "string" && m.detail !== "") return m.detail[0]!.toUpperCase() + m.detail.slice(1) + ".";
  } catch {
    // No JSON; the status says enough.
  }
  return `The server answered ${r.status}.`;
}

/** What the API says of a run, whatever it leaves out. */
function run(m: Record<string, unknown>, client: string): ApiRun {
  const num = (v: unknown) => (typeof v === "number" ? v : 0);
  const str = (v: unknown) => (typeof v === "string" ? v : "");
  const when = (v: unknown) => (typeof v === "string" ? Date.parse(v) || 0 : num(v));
  return {
    run: str(m["run"]),
    client: str(m["client"]) || client,
    state: str(m["state"]),
    startedAt: when(m["startedAt"]),
    endedAt: when(m["endedAt"]),
    code: typeof m["code"] === "number" ? m["code"] : null,
    signal: str(m["signal"]),
    message: str(m["message"]),
    cmd: str(m["command"]),
    host: str(m["host"]),
    bytes: num(m["bytes"]),
    lines: num(m["lines"]),
  };
}

/** The namespace's tasks. */
export async function listTasks(api: Api, signal?: AbortSignal): Promise<ApiTask[]> {
  const m = (await (await api.get("/tasks", signal)).json()) as { tasks?: Record<string, unknown>[] };
  return (m.tasks ?? []).map((t) => {
    const latest = run((t["latest"] ?? {}) as Record<string, unknown>, "");
    const num = (v: unknown) => (typeof v === "number" ? v : 0);
    return {
      task: String(t["task"]),
      clients: num(t["clients"]),
      in: num(t["running"]),
      failed: num(t["failed"]),
      runs: num(t["runs"]),
      state: latest.state,
      startedAt: latest.startedAt || num(t["lastStartedAt"]),
      endedAt: latest.endedAt,
      code: latest.code,
      signal: latest.signal,
    };
  });
}

/** A task's clients, each with its latest run. */
export async function listClients(api: Api, task: string): Promise<{ run: ApiRun; in: boolean }[]> {
  const m = (await (await api.get(`/tasks/${encodeURIComponent(task)}/clients`)).json()) as { clients?: Record<string, unknown>[] };
  return (m.clients ?? []).map((c) => {
    const latest = (c["latest"] ?? {}) as Record<string, unknown>;
    return { run: run(latest, String(c["client"])), in: latest["connected"] === true || Number(c["running"]) > 0 };
  });
}

/** A client's runs, the newest first. */
export async function listRuns(api: Api, task: string, client: string): Promise<ApiRun[]> {
  const q = new URLSearchParams({ client });
  const m = (await (await api.get(`/tasks/${encodeURIComponent(task)}/runs?${q}`)).json()) as { runs?: Record<string, unknown>[] };
  return (m.runs ?? []).map((r) => run(r, client)).filter((r) => r.client === client);
}
