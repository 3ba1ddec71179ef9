// Many viewers in one process, for the chaos run. Each keeps what it needs to prove that it got everything once: a hash for each run and stream.
// stdin: lines {op:"viewer", id, alias, url, token, task, from, v2, transports} makes one; {op:"away", id, ms} has it leave and come back;
// {op:"event", id, name, arg} has one (without a url) hear an event, for tests of this script; {op:"detach", id, from, ms} has it let go of a client for a while; {op:"status"} is answered with one line of {id, …} for each, and {done:true}.
'use strict';
const crypto = require('crypto');
const readline = require('readline');
const viewers = new Map();

const streams = () => ({ STDOUT: stream(), STDERR: stream() });
const stream = () => ({ hash: crypto.createHash('sha256'), bytes: 0 });

class Viewer {
  constructor(m) {
    Object.assign(this, m);
    this.runs = new Map(); // by run; for viewers that ask for nothing new by client
    this.cursors = {};
    this.trouble = [];
    this.gaps = []; // silences, [from, to] in ms
    this.last = 0;
    this.connects = 0;
    this.attached = 0; // when the server took us in; for viewers that ask for nothing new
    this.received = 0;
    this.deaf = false; // it has let go of the pulse
    if (this.url) this.open();
  }
  open() {
    const options = { forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 1000, timeout: 5000 };
    if (this.transports) options.transports = this.transports;
    const s = (this.socket = require(this.alias)(this.url, options));
    s.on('connect', () => {
      this.connects++;
      this.attached = 0;
      this.deaf = false;
      const watch = { task: this.task, from: this.from };
      if (this.v2) Object.assign(watch, { history: 'all', batch: true, after: this.after() });
      else this.runs.clear(); // everything comes anew, of runs that go on
      s.emit('authenticate', this.v2 ? { type: 'browser_token', token: this.token, v: 2, watch } : { type: 'browser_token', token: this.token, watch });
    });
    s.on('data', (m) => this.data(m));
    s.on('eof', (m) => this.eof(m));
    s.on('gap', (m) => this.gap(m));
    s.on('problem', (m) => this.trouble.push('problem ' + JSON.stringify(m)));
    s.on('authenticated', (m) => {
      if (!m.error) this.attached = Date.now();
      else if (m.code !== 'busy') this.trouble.push('refused ' + JSON.stringify(m));
    });
    s.on('disconnect', (why) => {
      if (why !== 'io server disconnect') return; // it comes back by itself, also when it was told that the server is busy
      this.trouble.push('told to go');
    });
  }
  after() {
    const out = {};
    for (const [from, byRun] of Object.entries(this.cursors)) out[from] = Object.values(byRun);
    return out;
  }
  run(m) {
    const key = m.run || m.from;
    let r = this.runs.get(key);
    if (!r) this.runs.set(key, (r = { from: m.from, seq: 0, ends: [], notes: 0, streams: streams() }));
    return r;
  }
  data(m) {
    const now = Date.now();
    if (m.from === this.pulse && !this.deaf) {
      if (this.last && now - this.last > 200) this.gaps.push([this.last, now]);
      this.last = now;
    }
    const r = this.run(m);
    if (!this.v2) return this.take(r, m.data.type, m.data.data);
    for (const rec of m.data) {
      if (rec.seq <= r.seq) this.trouble.push('twice ' + m.from + ' ' + rec.seq + ' after ' + r.seq);
      r.seq = Math.max(r.seq, rec.seq);
      this.take(r, rec.type, rec.b64 !== undefined ? Buffer.from(rec.b64, 'base64') : rec.data);
    }
    this.remember(m);
  }
  take(r, type, data) {
    if (type === 'NOTE') return r.notes++;
    const s = r.streams[type];
    if (!s) return this.trouble.push(type + ' ' + String(data).slice(0, 200));
    // without the extension bytes that are no text have become U+FFFD; both sides leave those out
    const b = Buffer.isBuffer(data) ? data : Buffer.from(this.v2 ? data : data.split('\uFFFD').join(''));
    s.hash.update(b);
    s.bytes += b.length;
    this.received += b.length;
  }
  gap(m) {
    this.trouble.push('gap ' + JSON.stringify(m));
  }
  eof(m) {
    const r = this.run(m);
    r.ends.push(String(m.code));
    this.remember(m);
  }
  remember(m) {
    if (this.v2 && m.cursor) (this.cursors[m.from] = this.cursors[m.from] || {})[m.run] = m.cursor;
  }
  away(ms) {
    this.socket.close();
    this.last = 0;
    setTimeout(() => this.open(), ms);
  }
  detach(from, ms) {
    this.socket.emit('detach', { from: [from] });
    if (from === this.pulse) {
      this.last = 0;
      this.deaf = true;
    }
    const s = this.socket;
    setTimeout(() => {
      if (s !== this.socket) return;
      this.deaf = false;
      s.emit('attach', this.v2 ? { from: [from], batch: true } : { from: [from] });
    }, ms);
  }
  status() {
    const runs = [];
    for (const r of this.runs.values()) {
      const out = { from: r.from, ends: r.ends, notes: r.notes, streams: {} };
      for (const [name, s] of Object.entries(r.streams)) out.streams[name] = { sha: s.hash.copy().digest('hex'), bytes: s.bytes };
      runs.push(out);
    }
    return { id: this.id, runs, trouble: this.trouble.slice(0, 20), gaps: this.gaps, connects: this.connects, attached: this.attached, received: this.received };
  }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const m = JSON.parse(line);
  if (m.op === 'viewer') viewers.set(m.id, new Viewer(m));
  else if (m.op === 'event') viewers.get(m.id)[m.name](m.arg);
  else if (m.op === 'away') viewers.get(m.id).away(m.ms);
  else if (m.op === 'detach') viewers.get(m.id).detach(m.from, m.ms);
  else if (m.op === 'status') {
    for (const v of viewers.values()) process.stdout.write(JSON.stringify(v.status()) + '\n');
    process.stdout.write('{"done":true}\n');
  }
}).on('close', () => process.exit(0));
