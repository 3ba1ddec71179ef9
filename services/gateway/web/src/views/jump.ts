// What a person may type to go somewhere: a line, a time of the day, a time since the start.

export interface Jump {
  line?: number;
  /** In ms. */
  at?: number;
}

/** Reads "1200", "L1200", "14:03", "14:03:20", "+90", "+90s", "+5m", "+1:20:00"; undefined where it is none of these. */
export function parseJump(text: string, startedAt: number): Jump | undefined {
  const s = text.trim();
  const line = /^[#L]*(\d{1,10})$/i.exec(s);
  if (line && Number(line[1]) > 0) return { line: Number(line[1]) };
  const since = /^\+(?:(\d+)(s|m|h)?|(?:(\d+):)?(\d+):(\d+))$/.exec(s);
  if (since) {
    const unit = { s: 1, m: 60, h: 3600 }[since[2] ?? "s"] ?? 1;
    const seconds = since[1] !== undefined ? Number(since[1]) * unit : Number(since[3] ?? 0) * 3600 + Number(since[4]) * 60 + Number(since[5]);
    return { at: startedAt + seconds * 1000 };
  }
  const clock = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(s);
  if (!clock) return undefined;
  const d = new Date(startedAt || Date.now());
  d.setHours(Number(clock[1]), Number(clock[2]), Number(clock[3] ?? 0), 0);
  // Earlier than the start means the day after it.
  if (startedAt && d.getTime() + 60_000 < startedAt) d.setDate(d.getDate() + 1);
  return { at: d.getTime() };
}
