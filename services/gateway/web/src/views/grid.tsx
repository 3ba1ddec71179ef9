// All clients at a glance: how each stands, the failed first, and the last line of those that are attached.

import { duration } from "../rows/time.ts";
import { name } from "./clients.tsx";
import { ending, mood, rank, type Client, type Mood } from "./model.ts";
import { Light, useNow } from "./parts.tsx";

const order: Mood[] = ["failed", "lost", "detached", "running", "passed", "unknown"];
const words: Record<Mood, string> = { failed: "failed", lost: "lost", detached: "waiting", running: "running", passed: "passed", unknown: "not run" };

export function Grid({ clients, attached, onChoose }: { clients: Client[]; attached: Set<string>; onChoose: (id: string) => void }) {
  const now = useNow(clients.some((c) => mood(c.runs[0]) === "running"));
  const list = [...clients].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1));
  const counts = new Map<Mood, number>();
  const codes = new Map<string, number>();
  for (const c of clients) {
    const m = mood(c.runs[0]);
    counts.set(m, (counts.get(m) ?? 0) + 1);
    if (m === "failed" || m === "lost") codes.set(ending(c.runs[0]), (codes.get(ending(c.runs[0])) ?? 0) + 1);
  }
  const first = list.find((c) => rank(c) < 2);
  return (
    <div class="grid-view">
      <div class="overview">
        <p role="status">
          {order
            .filter((m) => counts.has(m))
            .map((m) => (
              <span key={m} class={`word ${m}`}>
                <b>{counts.get(m)}</b> {words[m]}{" "}
              </span>
            ))}
          {[...codes].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([c, n]) => (
            <span key={c} class="chip">
              {c} × {n}
            </span>
          ))}
        </p>
        {first && (
          <button type="button" onClick={() => onChoose(first.id)} title="( ! )">
            Go to the first that failed
          </button>
        )}
      </div>
      <div class="bar" aria-hidden="true">
        {order
          .filter((m) => counts.has(m))
          .map((m) => (
            <span key={m} class={`bar-${m}`} style={{ flexGrow: counts.get(m) }} />
          ))}
      </div>
      <ul class="tiles">
        {list.map((c) => {
          const run = c.runs[0];
          const m = mood(run);
          return (
            <li key={c.id}>
              <button type="button" class={`tile ${m}`} onClick={() => onChoose(c.id)}>
                <span class="tile-head">
                  <Light mood={m} isIn={c.in} />
                  <span class="id">{name(c.id)}</span>
                </span>
                <span class="tile-state">
                  <span class={`word ${m}`}>{ending(run)}</span>
                  {run && run.startedAt > 0 && <span class="muted">{duration((run.endedAt || now) - run.startedAt)}</span>}
                </span>
                <span class="last">{attached.has(c.id) ? c.last : ""}</span>
              </button>
            </li>
          );
        })}
      </ul>
    </div>
  );
}
