// The real services, a real browser, and a producer that speaks as tt does.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { io, type Socket } from "socket.io-client";

export const root = path.resolve(process.env["TASKTRACER_ROOT"] ?? path.join(process.cwd(), "../../.."));
const binary = path.join(root, "bin/tasktracer");

/** Where screenshots go; none are taken without it. */
export const shots = process.env["SCREENSHOTS"] ?? "";

export async function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const s = createServer();
    s.on("error", fail);
    s.listen(0, "127.0.0.1", () => {
      const a = s.address();
      s.close(() => done(typeof a === "object" && a ? a.port : 0));
    });
  });
}

/** A process that is ready when it has said `ready` on stdout or stderr. */
export class Process {
  private child: ChildProcess | undefined;
  output = "";

  constructor(
    private readonly args: string[],
    private readonly ready: RegExp,
  ) {}

  async start(): Promise<void> {
    if (!existsSync(binary)) throw new Error(`${binary} is not there: run make build`);
    this.output = "";
    const child = spawn(binary, this.args, { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    await new Promise<void>((done, fail) => {
      const read = (b: Buffer) => {
        this.output += b.toString();
        if (this.ready.test(this.output)) done();
      };
      child.stdout!.on("data", read);
      child.stderr!.on("data", read);
      child.on("exit", (code) => fail(new Error(`${this.args[0]} ended with ${code}:\n${this.output.slice(-3000)}`)));
    });
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child || child.exitCode !== null) return;
    await new Promise<void>((done) => {
      child.removeAllListeners("exit");
      child.on("exit", () => done());
      child.kill(signal);
    });
  }
}

export class Server {
  url = "";
  browserToken = "";
  clientToken = "";
  readonly data = mkdtempSync(path.join(tmpdir(), "tasktracer-e2e-"));
  private process: Process;

  private constructor(
    readonly port: number,
    extra: string[],
  ) {
    this.process = new Process(["all", "--listen", `127.0.0.1:${port}`, "--data", this.data, ...extra], /Paste this[\s\S]*TASKTRACER_TOKEN=\S+/);
  }

  static async start(...extra: string[]): Promise<Server> {
    const s = new Server(await freePort(), extra);
    await s.restart();
    return s;
  }

  async restart(): Promise<void> {
    await this.process.start();
    const out = this.process.output;
    this.url = `http://127.0.0.1:${this.port}`;
    this.browserToken = decodeURIComponent(/accessToken=(\S+)/.exec(out)![1]!);
    this.clientToken = /TASKTRACER_TOKEN=(\S+)/.exec(out)![1]!;
  }

  /** A token with this life, such as "3 seconds". */
  token(period: string, type = "browser_token"): string {
    return execFileSync(binary, ["tokengen", "--data", this.data, "--ns", "default", "--type", type, "--period", period]).toString().trim();
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.process.stop(signal);
  }

  async close(): Promise<void> {
    await this.process.stop("SIGTERM");
    rmSync(this.data, { recursive: true, force: true });
  }

  page(task: string, query = "", base = this.url): string {
    return `${base}/tasks/${encodeURIComponent(task)}/?accessToken=${this.browserToken}${query ? "&" + query : ""}`;
  }
}

export type Kind = "STDOUT" | "STDERR" | "NOTE";

/** A client with the extension of docs/protocol.md: numbered records, each acknowledged. */
export class Producer {
  private socket: Socket;
  private seq = 1;
  private readonly ready: Promise<void>;

  constructor(
    server: Server,
    readonly task: string,
    readonly id: string,
    cmd = "sh -c …",
    readonly runId = Math.random().toString(36).slice(2, 14).padEnd(12, "0"),
  ) {
    this.socket = io(server.url, { transports: ["websocket"], forceNew: true, reconnection: false });
    this.ready = new Promise((done, fail) => {
      this.socket.on("connect", () =>
        this.socket.emit("authenticate", { type: "client", token: server.clientToken, id, task: { name: task, cmd, host: `${id}.example` }, v: 2, run: this.runId, next: 1, now: Date.now() }),
      );
      this.socket.on("authenticated", (m: { error?: string }) => (m.error ? fail(new Error(m.error)) : done()));
      this.socket.on("connect_error", fail);
    });
  }

  /** Sends output and waits until it is durable. */
  async write(data: string | Uint8Array, type: Kind = "STDOUT", at = Date.now()): Promise<void> {
    await this.writeAll([[data, type, at]]);
  }

  async writeAll(list: [string | Uint8Array, Kind, number?][]): Promise<void> {
    await this.ready;
    const records = list.map(([data, type, at]) => ({
      seq: this.seq++,
      at: at ?? Date.now(),
      type,
      ...(typeof data === "string" ? { data } : { b64: Buffer.from(data).toString("base64") }),
    }));
    const ack = (await this.socket.timeout(60_000).emitWithAck("data", records)) as { durable?: number; error?: string };
    if (ack.error) throw new Error(ack.error);
  }

  /** Says that output was dropped, as a client does whose spool was full. */
  async lose(records: number, bytes: number): Promise<void> {
    await this.ready;
    const from = this.seq;
    this.seq += records;
    const note = { seq: this.seq - 1, at: Date.now(), type: "NOTE", data: "the spool was full", lost: { from, to: this.seq - 1, bytes } };
    const ack = (await this.socket.timeout(60_000).emitWithAck("data", [note])) as { error?: string };
    if (ack.error) throw new Error(ack.error);
  }

  async end(code = 0, signal?: string): Promise<void> {
    await this.ready;
    await this.socket.timeout(60_000).emitWithAck("eof", { seq: this.seq++, at: Date.now(), code, ...(signal ? { signal } : {}) });
    this.socket.disconnect();
  }

  /** Leaves without a word. */
  drop(): void {
    this.socket.disconnect();
  }
}

export async function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-precise-memory-info"],
  });
}

/** A page that fails the test when a script throws, a message box opens, or the policy stops something. */
export async function openPage(browser: Browser, url: string, o: Parameters<Browser["newContext"]>[0] = {}): Promise<{ page: Page; context: BrowserContext; trouble: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 760 }, colorScheme: "dark", ...o });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  const trouble: string[] = [];
  page.on("pageerror", (e) => trouble.push(`error: ${e.message}`));
  page.on("dialog", (d) => {
    trouble.push(`dialog: ${d.message()}`);
    void d.dismiss();
  });
  page.on("console", (m) => {
    if (m.type() === "error" && !/ERR_CONNECTION|WebSocket|Failed to load resource|50[234]/.test(m.text())) trouble.push(`console: ${m.text()}`);
  });
  await page.goto(url);
  return { page, context, trouble };
}

/** Counts how far what is on the page jumped by itself, as browsers count it (cumulative layout shift); to be asked for before the page is opened. */
export async function countShifts(page: Page): Promise<() => Promise<number>> {
  await page.addInitScript(() => {
    const w = window as unknown as { shifts: number };
    w.shifts = 0;
    new PerformanceObserver((l) => {
      for (const e of l.getEntries() as (PerformanceEntry & { value: number; hadRecentInput: boolean })[]) if (!e.hadRecentInput) w.shifts += e.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  return () => page.evaluate(() => (window as unknown as { shifts: number }).shifts);
}

/** The text of the rows on the screen. */
export async function rows(page: Page): Promise<string[]> {
  return page.$$eval(".row:not(.loading) .text", (list) => list.map((e) => e.textContent ?? ""));
}

/** Waits until a row on the screen has this text. */
export async function row(page: Page, text: string, timeout = 30_000): Promise<void> {
  await page.locator(".row .text", { hasText: text }).first().waitFor({ timeout });
}

/** All lines of the log, as a person would copy them. */
export async function copyAll(page: Page): Promise<string> {
  await page.locator(".log").focus();
  await page.keyboard.press("Control+a");
  // The address changes first, what is drawn follows it.
  await page.locator(".tools button", { hasText: /^Copy / }).waitFor();
  await page.evaluate(() => navigator.clipboard.writeText("nothing copied yet"));
  await page.keyboard.press("c");
  const said = page.locator(".foot [role=status]", { hasText: /copied/i });
  await said.waitFor();
  const words = await said.textContent();
  if (!/^Lines? .* copied\.$/.test(words ?? "")) throw new Error(words ?? "");
  return page.evaluate(() => navigator.clipboard.readText());
}

export async function shot(page: Page, name: string): Promise<void> {
  if (shots) await page.screenshot({ path: path.join(shots, `${name}.png`) });
}
