// Viewers of three generations and all transports at one client's run, through a load balancer, each going on by its cursor whenever its connection
// ends. Prints, for each different text they have in the end, its SHA-256 and how many have it.
//
//   node viewers.js URL TOKEN TASK ID VIEWERS_PER_KIND

const crypto = require("node:crypto");
const { createRequire } = require("node:module");
const path = require("node:path");

const clients = createRequire(path.join(__dirname, "..", "clients", "package.json"));
const [url, token, task, id, count] = process.argv.slice(2);
const transports = { polling: ["polling"], websocket: ["websocket"], default: undefined };
const patience = 180_000; // ms, for the whole run

const texts = {};
let left = 0, reconnects = 0, errors = 0, longest = 0;

function view(name, transport) {
  left++;
  const options = { forceNew: true, reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 1000 };
  if (transports[transport]) options.transports = transports[transport];
  const socket = clients(name)(url, options);
  const hash = crypto.createHash("sha256");
  let cursor, connects = 0, last = 0, seq = 0;
  socket.on("connect", () => {
    if (connects++) reconnects++;
    const watch = { task, from: [id], history: "all", batch: true };
    if (cursor) watch.after = { [id]: [cursor] };
    socket.emit("authenticate", { type: "browser_token", token, watch, v: 2 });
  });
  for (const e of ["connect_error", "error"]) socket.on(e, () => errors++);
  for (const e of ["problem", "gap"]) socket.on(e, (what) => console.log(name, transport, e, JSON.stringify(what)));
  socket.on("data", (d) => {
    const now = Date.now();
    if (last) longest = Math.max(longest, now - last);
    last = now;
    cursor = d.cursor;
    for (const r of d.data) {
      if (seq && r.seq !== seq + 1) console.log(`${name} ${transport}: record ${r.seq} after ${seq}, connection ${connects}`);
      seq = r.seq;
      hash.update(r.data ?? Buffer.from(r.b64 ?? "", "base64"));
    }
  });
  socket.on("eof", () => {
    const text = hash.digest("hex");
    (texts[text] ??= []).push(`${name} ${transport}`);
    socket.close();
    if (--left === 0) done(0);
  });
}

function done(code) {
  const all = Object.entries(texts).sort((a, b) => b[1].length - a[1].length);
  for (const [text, who] of all) console.log(text, who.length);
  for (const [, who] of all.slice(1)) console.log("differs:", who.join(", "));
  console.log(`reconnects ${reconnects}, connect errors ${errors}, longest silence ${longest} ms, without end ${left}`);
  process.exit(code);
}

for (const name of ["sio1", "sio2", "sio4"])
  for (const transport of Object.keys(transports)) for (let i = 0; i < Number(count); i++) view(name, transport);
setTimeout(() => done(1), patience).unref();
