// Senders and viewers of three generations on all transports, each sender watched by a viewer of its own kind, through load balancers that know nothing of
// sessions. Prints how many of the pairs failed: each viewer must get all lines in order, and the end.
//
//   node senders.js VIEWER_URL CLIENT_URL BROWSER_TOKEN CLIENT_TOKEN ROUNDS

const { createRequire } = require("node:module");
const path = require("node:path");

const clients = createRequire(path.join(__dirname, "..", "clients", "package.json"));
const [viewers, door, browserToken, clientToken, rounds] = process.argv.slice(2);
const transports = { polling: ["polling"], websocket: ["websocket"], default: undefined };
const lines = 50;
const patience = 60_000; // ms, for one pair

function connect(name, transport, url) {
  const options = { forceNew: true, reconnection: false };
  if (transports[transport]) options.transports = transports[transport];
  return clients(name)(url, options);
}

function pair(name, transport, round) {
  const task = "senders", id = `${name}-${transport}-${round}-${process.pid}`;
  const viewer = connect(name, transport, viewers), sender = connect(name, transport, door);
  return new Promise((resolve) => {
    let text = "", want = "", done = false;
    const end = (why) => {
      if (done) return;
      done = true;
      viewer.close();
      sender.close();
      resolve(why && `${id}: ${why}`);
    };
    setTimeout(() => end(`not done in time, ${text.length} of ${want.length} bytes seen`), patience).unref();
    for (const [who, socket] of Object.entries({ viewer, sender })) {
      for (const e of ["connect_error", "error"]) socket.on(e, (err) => end(`${who}: ${e}: ${err?.message ?? err}`));
      socket.on("disconnect", (why) => end(`${who}: disconnected: ${why}`));
    }
    viewer.on("connect", () => viewer.emit("authenticate", { type: "browser_token", token: browserToken, watch: { task, from: [id] } }));
    viewer.on("authenticated", (a) => {
      if (a?.error) return end("viewer: " + a.error);
      const begin = () => sender.emit("authenticate", { type: "client", token: clientToken, id, task: { name: task, cmd: "-" } });
      sender.connected ? begin() : sender.on("connect", begin);
    });
    sender.on("authenticated", (a) => {
      if (a?.error) return end("sender: " + a.error);
      for (let i = 0; i < lines; i++) {
        const data = `line ${i} ✓\n`;
        want += data;
        sender.emit("data", { type: "STDOUT", data });
      }
      sender.emit("eof", { code: 0 });
    });
    viewer.on("data", (d) => (text += d.data.data));
    viewer.on("eof", () => end(text === want ? "" : `${text.length} bytes seen, ${want.length} sent`));
  });
}

(async () => {
  const failures = [];
  let pairs = 0;
  for (let round = 0; round < Number(rounds); round++) {
    const all = [];
    for (const name of ["sio1", "sio2", "sio4"]) for (const transport of Object.keys(transports)) all.push(pair(name, transport, round));
    for (const failed of await Promise.all(all)) {
      pairs++;
      if (failed) failures.push(failed);
    }
  }
  for (const f of failures) console.log(f);
  console.log(`${pairs} pairs of sender and viewer, ${failures.length} failed`);
  process.exit(failures.length ? 1 : 0);
})();
