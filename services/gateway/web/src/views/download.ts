// The log as a file. The token goes in a header, so the address of the file holds none.

import type { Api, ApiRun } from "../api.ts";

export async function download(api: Api, task: string, run: ApiRun, plain: boolean, say: (s: string) => void): Promise<void> {
  const file = `${task}-${run.client}-${run.run}`.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 120) + ".log";
  try {
    say("Fetching the log…");
    const q = new URLSearchParams({ task, client: run.client });
    if (plain) q.set("ansi", "strip");
    const blob = await (await api.get(`/runs/${encodeURIComponent(run.run)}/log?${q}`)).blob();
    const a = document.createElement("a");
    a.href = URL.createObjectURL(blob);
    a.download = file;
    a.click();
    setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
    say(`Saved as ${file}.`);
  } catch (e) {
    say(e instanceof Error ? e.message : String(e));
  }
}
