// The clients of a task: lights, and boxes that attach and detach.

import { useState } from "preact/hooks";
import { duration } from "../rows/time.ts";
import { ending, mood, rank, type Client } from "./model.ts";
import { Light, useNow } from "./parts.tsx";

export interface ClientsProps {
  clients: Client[];
  loaded: boolean;
  attached: Set<string>;
  all: boolean;
  focus: string | undefined;
  onToggle: (id: string, on: boolean) => void;
  onAll: (on: boolean) => void;
  onChoose: (id: string) => void;
}

export function Clients(p: ClientsProps) {
  const [filter, setFilter] = useState("");
  const running = p.clients.some((c) => mood(c.runs[0]) === "running");
  const now = useNow(running);
  const f = filter.trim().toLowerCase();
  const list = p.clients.filter((c) => f === "" || c.id.toLowerCase().includes(f)).sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1));
  const failed = p.clients.filter((c) => rank(c) < 2).length;
  return (
    <aside class="clients" aria-label="Clients">
      <div class="clients-head">
        {p.clients.length > 8 && <input type="search" placeholder="Filter clients" aria-label="Filter clients" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />}
        <label class="all">
          <input type="checkbox" checked={p.all} onChange={(e) => p.onAll(e.currentTarget.checked)} />
          <span>attach all</span>
          <span class="muted">
            {p.clients.length} {p.clients.length === 1 ? "client" : "clients"}
            {failed > 0 && <span class="word failed">, {failed} failed</span>}
          </span>
        </label>
      </div>
      <ul>
        {list.map((c) => {
          const run = c.runs[0];
          const m = mood(run);
          return (
            <li key={c.id} class={c.id === p.focus ? "here" : ""}>
              <input type="checkbox" checked={p.attached.has(c.id)} aria-label={`Attach ${name(c.id)}`} title="attached: its output is fetched" onChange={(e) => p.onToggle(c.id, e.currentTarget.checked)} />
              <button type="button" class="client" aria-current={c.id === p.focus ? "true" : undefined} onClick={() => p.onChoose(c.id)}>
                <Light mood={m} isIn={c.in} />
                <span class="id">{name(c.id)}</span>
                <span class={`word ${m}`}>{ending(run)}</span>
                {run && run.startedAt > 0 && <span class="muted took">{duration((run.endedAt || now) - run.startedAt)}</span>}
              </button>
            </li>
          );
        })}
      </ul>
      {p.loaded && p.clients.length === 0 && <p class="empty">No client yet.</p>}
      {p.clients.length > 0 && list.length === 0 && <p class="empty">No client matches.</p>}
    </aside>
  );
}

/** An id for people; it may be empty, or very long. */
export function name(id: string): string {
  return id === "" ? "(no id)" : id;
}
