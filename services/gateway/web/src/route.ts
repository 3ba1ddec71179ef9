// What the address says: which task, which clients, which view, which lines. It never holds a token.

export type ViewName = "one" | "grid" | "merged";

export interface Route {
  /** The task; undefined on the list of tasks. */
  task: string | undefined;
  /** Clients that are attached. */
  ids: string[];
  /** All clients are attached. */
  all: boolean;
  view: ViewName;
  /** The client that the single view shows, and its run ("" for the latest). */
  focus: string;
  run: string;
  /** Lines marked by the address, from 1 on; 0 for none. */
  from: number;
  to: number;
}

const views: readonly string[] = ["one", "grid", "merged"];

export function parseRoute(href: string): Route {
  const url = new URL(href);
  const m = /^\/tasks\/([^/]+)\/?$/.exec(url.pathname);
  const q = url.searchParams;
  const view = q.get("view") ?? "";
  const ids = [...new Set(q.getAll("id"))];
  const lines = /^#L(\d{1,10})(?:-L?(\d{1,10}))?$/.exec(url.hash);
  const a = Number(lines?.[1] ?? 0);
  const b = Number(lines?.[2] ?? a);
  return {
    task: m ? decode(m[1]!) : undefined,
    ids,
    all: q.get("all") === "1",
    view: views.includes(view) ? (view as ViewName) : "one",
    focus: q.get("on") ?? ids[0] ?? "",
    run: q.get("run") ?? "",
    from: Math.min(a, b),
    to: Math.max(a, b),
  };
}

/** The address of a route, without host. */
export function address(r: Route): string {
  if (r.task === undefined) return "/";
  const q = new URLSearchParams();
  if (r.all) q.set("all", "1");
  else for (const id of r.ids) q.append("id", id);
  if (r.view !== "one") q.set("view", r.view);
  if (r.focus !== (r.all ? "" : (r.ids[0] ?? ""))) q.set("on", r.focus);
  if (r.run !== "") q.set("run", r.run);
  const s = q.toString();
  return `/tasks/${encodeURIComponent(r.task)}/${s ? "?" + s : ""}${r.from > 0 ? hash(r.from, r.to) : ""}`;
}

export function hash(from: number, to: number): string {
  return to > from ? `#L${from}-L${to}` : `#L${from}`;
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}
