// Runs one client over one choice of transports against the server of the matrix test, and prints a finding for each scenario.
// usage: node matrix.js ALIAS polling|websocket|default URL SCENARIO…
'use strict';
const crypto = require('crypto');
const [alias, transport, url, ...scenarios] = process.argv.slice(2);
const io = require(alias);
const generation = Number(alias.slice(3));
const isDefault = transport === 'default';

function connect(extra) {
  const options = Object.assign({ forceNew: true, reconnection: false, timeout: 15000 }, extra);
  if (!isDefault) options.transports = [transport];
  return io(url, options);
}
// the options of the real clients agree on all but this: in generation 1 and 2 a failed connection is also an "error"
function broken(socket, reject) {
  for (const e of ['connect_error', 'connect_timeout', 'error']) socket.on(e, (err) => reject(new Error(e + ': ' + (err && err.message || err))));
}
function within(ms, what, f) {
  return new Promise((resolve, reject) => {
    const t = setTimeout(() => reject(new Error('not within ' + ms + ' ms: ' + what())), ms);
    f((v) => { clearTimeout(t); resolve(v); }, (e) => { clearTimeout(t); reject(e); });
  });
}
function once(socket, event, ms) {
  return within(ms || 20000, () => event, (resolve, reject) => { broken(socket, reject); socket.once(event, (...a) => resolve(a)); });
}
async function open(extra) {
  const s = connect(extra);
  await once(s, 'connect');
  return s;
}
function engine(s) { return s.io.engine; }
async function settled(s) { // with default transports: when the upgrade has come about
  if (!isDefault || engine(s).transport.name === 'websocket') return;
  await within(15000, () => 'upgrade', (resolve) => engine(s).once('upgrade', resolve));
}
function same(what, got, want) {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(what + ': got ' + JSON.stringify(got).slice(0, 300) + ', want ' + JSON.stringify(want).slice(0, 300));
  }
}
const ack = (s, ...args) => within(60000, () => 'ack of ' + args[0], (resolve) => s.emit(...args, (...a) => resolve(a)));

const texts = ['plain', '', 'ü', 'Ã¼', 'naïve café', '日本語', '😀', 'a😀b👩‍👩‍👧c', '\u2028\u2029', '\u0000\u001e\u001f', '\\"\'<>&', 'é'.repeat(5000), '😀'.repeat(5000), ':5:', '10:4'];

const all = {
  // 60 connections at once, each with traffic both ways during the upgrade; none may lose or reorder an event.
  async upgrade() {
    const conns = 60, n = 30;
    const one = (id) => within(60000, () => 'connection ' + id, (resolve, reject) => {
      const s = connect(), got = [], pushed = [];
      let authenticated = 0;
      broken(s, reject);
      s.on('disconnect', (r) => reject(new Error('disconnect: ' + r)));
      s.on('authenticated', () => { authenticated++; });
      s.on('pushed', (i) => { pushed.push(i); check(); });
      s.on('echoed', (i) => { got.push(i); check(); });
      function check() {
        if (got.length < n || pushed.length < n) return;
        s.off ? s.off('disconnect') : s.removeAllListeners('disconnect');
        try {
          const want = Array.from({ length: n }, (_, i) => i);
          same('authenticated', authenticated, 1); same('echoes', got, want); same('pushes', pushed, want);
        } catch (e) { return reject(e); }
        resolve(s);
      }
      s.on('connect', () => {
        s.emit('authenticate', { id, push: n });
        let i = 0;
        const next = () => { s.emit('echo', i++); if (i < n) (i % 3 ? setImmediate : (f) => setTimeout(f, 1))(next); };
        next();
      });
    });
    const sockets = await Promise.all(Array.from({ length: conns }, (_, i) => one(i)));
    await Promise.all(sockets.map(settled));
    const names = new Set(sockets.map((s) => engine(s).transport.name));
    same('transports', [...names], [isDefault ? 'websocket' : transport]);
    sockets.forEach((s) => s.close());
  },
  async attach() {
    const s = await open();
    const answer = once(s, 'authenticated');
    s.emit('authenticate', { watch: { task: 't', from: ['a', 'b'] } });
    same('authenticated', await answer, [{ from: ['a', 'b'] }]);
    const data = once(s, 'data');
    s.emit('attach', { from: ['c'] });
    same('data', await data, [{ data: { data: 'hi ü😀\n', type: 'STDOUT' }, from: 'c' }]);
    s.close();
  },
  async unicode() {
    const s = await open();
    if (!isDefault) {
      for (const t of texts) same('ack', await ack(s, 'echo', t, { [t]: t }), [t, { [t]: t }]);
    }
    await settled(s);
    for (const t of texts) same('ack', await ack(s, 'echo', t, { [t]: t }), [t, { [t]: t }]);
    s.close();
  },
  async large() {
    const s = await open();
    await settled(s);
    for (const size of [1 << 20, 5 << 20]) {
      const text = 'ü'.repeat(16) + 'x'.repeat(size);
      const [len, back] = await ack(s, 'measure', text);
      same('length in bytes', len, Buffer.byteLength(text));
      if (back !== text) throw new Error(size + ' bytes came back as ' + back.length + ' characters');
    }
    s.close();
  },
  async acks() {
    const s = await open();
    const question = within(20000, () => 'question', (resolve) => s.on('question', (a, b, reply) => { reply({ sum: a + b }, 'two'); resolve(); }));
    same('ack', await ack(s, 'echo', 1, 'two', [3]), [1, 'two', [3]]);
    same('empty ack', await ack(s, 'echo'), []);
    const answered = once(s, 'answered');
    s.emit('ask');
    await question;
    same('answered', await answered, [[{ sum: 5 }, 'two']]);
    s.close();
  },
  async order() {
    const s = await open();
    const n = 500, got = [];
    await within(60000, () => got.length + ' of ' + n, (resolve, reject) => {
      broken(s, reject);
      s.on('echoed', (i) => { got.push(i); if (got.length === n) resolve(); });
      for (let i = 0; i < n; i++) s.emit('echo', i);
    });
    same('order', got, Array.from({ length: n }, (_, i) => i));
    s.close();
  },
  async binary() {
    const s = await open();
    for (let round = 0; round < 2; round++) {
      const one = crypto.randomBytes(100000), two = Buffer.from([0, 255, 1, 128]);
      const sums = [one, two].map((b) => crypto.createHash('sha256').update(b).digest('hex'));
      const got = await ack(s, 'digest', { a: one, b: [two], c: 'text' });
      same('digests', got, [sums]);
      await settled(s);
    }
    s.close();
  },
  async namespace() {
    const s = await open();
    const other = io(url + '/nowhere', Object.assign({ forceNew: true, reconnection: false }, isDefault ? {} : { transports: [transport] }));
    const err = await within(15000, () => 'refusal', (resolve, reject) => {
      other.on('connect', () => reject(new Error('connected to a namespace that is not there')));
      other.on('error', resolve); other.on('connect_error', resolve);
    });
    same('refusal', String(err && err.message || err), 'Invalid namespace');
    other.close();
    same('the default one still works', await ack(s, 'echo', 1), [1]);
    s.close();
  },
  // "io server disconnect" after all that was sent before, and no reconnection
  async disconnect() {
    const s = await open({ reconnection: true, reconnectionDelay: 100 });
    await settled(s);
    let n = 0, connects = 0;
    s.on('last', () => n++);
    s.on('connect', () => connects++);
    const reason = once(s, 'disconnect');
    s.emit('leave', 200);
    same('reason', (await reason)[0], 'io server disconnect');
    same('events before it', n, 200);
    await new Promise((r) => setTimeout(r, 1500));
    same('reconnections', connects, 0);
    s.close();
  },
  async reconnect() {
    const s = await open({ reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
    await settled(s);
    const gone = once(s, 'disconnect'), back = within(20000, () => 'reconnection', (resolve) => s.on('connect', resolve));
    s.emit('drop');
    const [reason] = await gone;
    if (!['transport close', 'transport error'].includes(reason)) throw new Error('reason: ' + reason);
    await back;
    same('after it', await ack(s, 'echo', 'again'), ['again']);
    s.close();
  },
  // what is emitted just before the client leaves
  async parting() {
    const s = await open(), n = 20;
    await settled(s);
    const id = alias + transport + Math.random();
    for (let i = 0; i < n; i++) s.emit('note', id, i);
    s.disconnect();
    const other = await open();
    let heard;
    for (let tries = 0; tries < 100; tries++) {
      [heard] = await ack(other, 'notes', id);
      if (heard.length === n) break;
      await new Promise((r) => setTimeout(r, 50));
    }
    same('notes', heard, Array.from({ length: n }, (_, i) => i));
    other.close();
  },
  // heartbeats of 300 and 400 ms: idle for a while, then a handler that is busy for longer than any deadline; nobody hangs up
  async heartbeats() {
    const s = await open();
    let gone = null;
    s.on('disconnect', (r) => { gone = r; });
    await settled(s);
    await new Promise((r) => setTimeout(r, 1500));
    same('after idling', [gone, await ack(s, 'echo', 1)], [null, [1]]);
    same('after a busy handler', [await ack(s, 'busy', 2000), gone], [[2000], null]);
    await new Promise((r) => setTimeout(r, 1000));
    same('after it', [gone, await ack(s, 'echo', 2)], [null, [2]]);
    s.close();
  },
  // n clients on one server, all thrown out at once: all come back, each once
  async storm() {
    const n = Number(process.env.STORM || 2000);
    const sockets = [];
    let connects = 0, refused = 0;
    const everybody = (want) => within(120000, () => connects + ' of ' + want + ' connected, ' + refused + ' attempts failed', (resolve) => {
      const t = setInterval(() => { if (connects >= want) { clearInterval(t); resolve(); } }, 20);
    });
    for (let i = 0; i < n; i++) {
      const s = connect({ reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 2000, timeout: 60000 });
      s.on('connect', () => connects++);
      s.on('connect_error', () => refused++);
      sockets.push(s);
      if (i % 100 === 99) await everybody(i - 50);
    }
    await everybody(n);
    const began = Date.now();
    sockets[0].emit('drop all');
    await everybody(2 * n);
    await new Promise((r) => setTimeout(r, 500));
    same('connections made', connects, 2 * n);
    const answers = await Promise.all(sockets.map((s, i) => ack(s, 'echo', i)));
    same('answers', answers.every(([v], i) => v === i), true);
    console.error(n + ' clients back after ' + (Date.now() - began) + ' ms');
    sockets.forEach((s) => s.close());
  },
  // what is emitted at once after the handshake, before anything has been heard
  async eager() {
    const s = connect(), n = 50;
    for (let i = 0; i < n; i++) s.emit('echo', i); // the client holds these until it is connected
    const got = [];
    await within(20000, () => got.length + ' of ' + n, (resolve, reject) => { broken(s, reject); s.on('echoed', (i) => { got.push(i); if (got.length === n) resolve(); }); });
    same('order', got, Array.from({ length: n }, (_, i) => i));
    s.close();
  },
};

(async () => {
  for (const name of scenarios) {
    try {
      await all[name]();
      console.log(JSON.stringify({ name, ok: true }));
    } catch (e) {
      console.log(JSON.stringify({ name, ok: false, detail: String(e && e.message || e) }));
    }
  }
  process.exit(0);
})();
