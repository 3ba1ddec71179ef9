// A task: its clients on the left, and one of three views of what they write.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Api, ApiRun } from "../api.ts";
import type { Route, ViewName } from "../route.ts";
import type { Theme } from "../rows/colour.ts";
import type { Settings } from "../settings.ts";
import { Clients, name } from "./clients.tsx";
import { Grid } from "./grid.tsx";
import { Help } from "./help.tsx";
import { LogPanel } from "./logpanel.tsx";
import { ending, mood, rank, TaskModel, type Client } from "./model.ts";
import { showIcon } from "./icon.ts";
import { Notice } from "./parts.tsx";
import { TopBar } from "./topbar.tsx";
import type { History } from "../wire.ts";

/** With more clients attached than this, only the end of each one's log is fetched until somebody looks at it. */
const many = 20;
const tail: History = { tail: 300 };
/** A run larger than this, in bytes, is not fetched whole: its end is, and of the rest what is looked at. */
const large = 128_000_000;
const largeTail: History = { tail: 2000 };

export interface TaskProps {
  task: string;
  token: string;
  api: Api;
  route: Route;
  go: (r: Route, replace?: boolean) => void;
  settings: Settings;
  change: (s: Partial<Settings>) => void;
  theme: Theme;
}

export function TaskPage(p: TaskProps) {
  const { task, route, go, settings } = p;
  // Made at once, not in an effect: effects wait for the first paint, and the connection need not.
  const [model] = useState(() => new TaskModel(task, p.token, p.api));
  const [, redraw] = useState(0);
  const [help, setHelp] = useState(false);
  const [side, setSide] = useState(false);
  const notify = useRef(settings.notify);
  notify.current = settings.notify;

  useEffect(() => {
    const off = model.listen(() => redraw((n) => n + 1));
    const end = model.onEnd((r) => tell(task, r, notify.current));
    return () => {
      off();
      end();
      model.close();
    };
  }, [model]);

  const clients = [...model.clients.values()];
  const ids = route.all ? clients.map((c) => c.id) : route.ids;
  // Without a word in the address the only client, or the one that failed or runs, is the one to show.
  const focus = route.focus !== "" || route.ids.length > 0 ? route.focus : ([...clients].sort((a, b) => rank(a) - rank(b) || newest(b) - newest(a))[0]?.id ?? "");
  const hasFocus = route.ids.length > 0 || clients.length > 0;
  const key = ids.join("\n");

  useLayoutEffect(() => {
    if (!model.loaded && model.error === "") return;
    const want = new Set(ids);
    if (hasFocus && route.view === "one") want.add(focus);
    model.detach([...model.clients.values()].filter((c) => c.attached && !want.has(c.id)).map((c) => c.id));
    if (hasFocus && want.has(focus)) model.attach([focus], (model.clients.get(focus)?.runs[0]?.bytes ?? 0) > large ? largeTail : "all");
    model.attach([...want], want.size > many ? tail : "all");
  }, [model, model.loaded, model.error, key, focus, hasFocus, route.view]);

  const client = model.clients.get(focus);
  // A run that was deleted under our eyes is gone from the list; the address may still name it.
  const run = client?.runs.find((r) => r.run === route.run) ?? (route.run === "" ? client?.runs[0] : undefined);
  useEffect(() => showIcon(overall(route.view === "one" ? (client ? [client] : []) : clients, run), title(route, focus, run)));

  useEffect(() => {
    const on = (e: KeyboardEvent) => {
      if (typing(e) || e.ctrlKey || e.metaKey || e.altKey) return;
      const order = [...clients].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1));
      const at = order.findIndex((c) => c.id === focus);
      const show = (c: Client | undefined) => c && go({ ...route, view: "one", focus: c.id, run: "", from: 0, to: 0 });
      if (e.key === "?") setHelp((h) => !h);
      else if (e.key === "Escape") setHelp(false);
      else if (e.key === "1") setView("one");
      else if (e.key === "2") setView("grid");
      else if (e.key === "3") setView("merged");
      else if (e.key === "!") show(order.find((c) => rank(c) < 2));
      else if (e.key === "]") show(order[Math.min(order.length - 1, at + 1)]);
      else if (e.key === "[") show(order[Math.max(0, at - 1)]);
      else return;
      e.preventDefault();
    };
    addEventListener("keydown", on);
    return () => removeEventListener("keydown", on);
  });

  const setView = (view: ViewName) => go({ ...route, view, from: 0, to: 0, all: route.all || (view !== "one" && route.ids.length === 0) });
  const link = model.link;
  if (link.state === "refused" && clients.length === 0)
    return (
      <Notice title={refusal(link.code)}>
        <p>{link.message}</p>
        <p>
          Open a fresh address to go on: every <code>tt</code> prints one when it starts, and <code>tasktracer tokengen</code> makes new tokens. Nothing is lost meanwhile; the log goes on.
        </p>
      </Notice>
    );

  const toggle = (id: string, on: boolean) => {
    const now = new Set(ids);
    if (on) now.add(id);
    else now.delete(id);
    go({ ...route, all: false, ids: [...now], focus: route.view === "one" && on ? id : focus === id && !on ? ([...now][0] ?? "") : focus, run: "", from: 0, to: 0 }, true);
  };
  const choose = (id: string) => {
    setSide(false);
    go({ ...route, view: "one", ids: route.all || route.ids.includes(id) ? route.ids : [...route.ids, id], focus: id, run: "", from: 0, to: 0 });
  };
  // The single view has a heading of its own, the client.
  const Crumb = route.view === "one" ? "span" : "h1";
  const views: [ViewName, string][] = [
    ["one", "One"],
    ["grid", "Grid"],
    ["merged", "Merged"],
  ];
  return (
    <div class={`page task${side ? " side-open" : ""}`}>
      <TopBar settings={settings} change={p.change} link={link} onHelp={() => setHelp(true)}>
        <Crumb class="crumb" title={task}>
          {task}
        </Crumb>
        <div class="views" role="group" aria-label="View">
          {views.map(([v, label], i) => (
            <button type="button" key={v} aria-pressed={route.view === v} title={`${label} ( ${i + 1} )`} onClick={() => setView(v)}>
              {label}
            </button>
          ))}
        </div>
        <button type="button" class="quiet side-toggle" aria-expanded={side} onClick={() => setSide(!side)}>
          Clients {clients.length > 0 ? clients.length : ""}
        </button>
      </TopBar>
      {/* Of its own, and the body has a key: what is read must not be made anew when a message comes or goes. */}
      <div class="messages">
        {link.state === "refused" && (
          <p class="warn" role="alert">
            {refusal(link.code)}. What you see stays, but nothing new comes. Open a fresh address to go on: every <code>tt</code> prints one when it starts. The log itself goes on, nothing is lost.
          </p>
        )}
        {model.error && link.state !== "refused" && <p class="warn" role="alert">{model.error} Trying again…</p>}
        {model.problem && <p class="warn" role="alert">{model.problem}</p>}
      </div>
      <div class="body" key="body">
        <Clients
          clients={clients}
          loaded={model.loaded}
          attached={new Set(ids)}
          all={route.all}
          focus={route.view === "one" && hasFocus ? focus : undefined}
          onToggle={toggle}
          onAll={(on) => go({ ...route, all: on, ids: on ? [] : focus && route.view === "one" ? [focus] : [] }, true)}
          onChoose={choose}
        />
        <main class="content">
          {!model.loaded && clients.length === 0 ? (
            <p class="empty">{model.error ? "" : "Loading…"}</p>
          ) : route.view === "grid" ? (
            <Grid clients={clients} attached={new Set(ids)} onChoose={choose} />
          ) : route.view === "merged" ? (
            <LogPanel key="merged" {...p} model={model} spec={{ kind: "merged" }} run={undefined} client={undefined} runs={[]} />
          ) : !hasFocus ? (
            <div class="empty">
              <p>Nothing has run under this name yet.</p>
              <p>
                It appears here when it starts: <code>tt -n {task} 'echo hi'</code>
              </p>
            </div>
          ) : run ? (
            <LogPanel key={run.run} {...p} model={model} spec={{ kind: "run", from: focus, run: run.run }} run={run} client={client} runs={client?.runs ?? []} />
          ) : (
            <div class="empty">
              <p>{route.run !== "" && client && client.runs.length > 0 ? "This run is not there (any more)." : `${focus === "" ? "This client" : focus} has not run anything yet.`}</p>
              <p>Its output appears here as soon as it does.</p>
            </div>
          )}
        </main>
      </div>
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

function newest(c: Client): number {
  return c.runs[0]?.startedAt ?? 0;
}

/** Tells whether a key goes into a field, and is none of ours. */
export function typing(e: KeyboardEvent): boolean {
  const t = e.target as HTMLElement | null;
  return !!t && (t.tagName === "SELECT" || t.tagName === "TEXTAREA" || (t.tagName === "INPUT" && (t as HTMLInputElement).type !== "checkbox"));
}

function overall(clients: Client[], run: ApiRun | undefined) {
  if (run) return mood(run);
  const moods = clients.map((c) => mood(c.runs[0]));
  for (const m of ["failed", "lost", "detached", "running", "passed"] as const) if (moods.includes(m)) return m;
  return "unknown";
}

function title(route: Route, focus: string, run: ApiRun | undefined): string {
  const who = route.view === "one" && focus !== "" ? ` · ${focus}` : "";
  const how = run && route.view === "one" ? `${ending(run)} · ` : "";
  return `${how}${route.task}${who} · TaskTracer`;
}

function tell(task: string, r: ApiRun, wanted: boolean): void {
  if (!wanted || !("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const n = new Notification(`${task}: ${ending(r)}`, { body: `${name(r.client)}${r.cmd ? ": " + r.cmd : ""}`.slice(0, 300), tag: r.run });
    n.onclick = () => window.focus();
  } catch {
    // Chromium on Android lets no page do this. The tab's title and icon say it too.
  }
}

function refusal(code: string): string {
  if (code.endsWith("expired")) return "The access token has expired";
  if (code.endsWith("revoked")) return "The access token was revoked";
  if (code === "wrong_endpoint") return "This address is the door for tt, not for browsers";
  return "The server did not accept the access token";
}
