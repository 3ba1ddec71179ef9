// Runs the bundle that a client's users put into their pages, in a real browser, against the server of the browser test; prints a finding for each scenario.
// usage: node browser.js PLAYWRIGHT CHROMIUM PROFILE PAGE SERVER polling|websocket|default SCENARIO…
// PAGE is a page that has loaded the bundle; SERVER is where its sockets go to.
'use strict';
const [playwright, executablePath, profile, pageURL, server, transport, ...scenarios] = process.argv.slice(2);
const { chromium } = require(playwright);

// What runs in the page. It has connect, once, ack and same at hand, and texts; each gives what is wrong by throwing.
const inPage = {
  async echo({ open, settled, ack, same, texts }) {
    const s = await open();
    for (const t of texts) same('during the upgrade', await ack(s, 'echo', t), [t]);
    await settled(s);
    for (const t of texts) same('ack', await ack(s, 'echo', t, { [t]: t }), [t, { [t]: t }]);
    s.close();
  },
  async receive({ open, settled, within, same, texts }) {
    const s = await open(), got = [];
    await settled(s);
    await within('events', (resolve) => {
      s.on('echoed', (t) => { got.push(t); if (got.length === texts.length) resolve(); });
      for (const t of texts) s.emit('echo', t);
    });
    same('events', got, texts);
    s.close();
  },
  // before the connection is there, and while it changes to WebSocket
  async eager({ connect, within, same }) {
    const s = connect(), n = 100, got = [];
    await within('echoes', (resolve) => {
      s.on('echoed', (i) => { got.push(i); if (got.length === n) resolve(); });
      for (let i = 0; i < n / 2; i++) s.emit('echo', i);
      s.on('connect', () => { let i = n / 2; const t = setInterval(() => { s.emit('echo', i++); if (i === n) clearInterval(t); }, 1); });
    });
    same('echoes', got, Array.from({ length: n }, (_, i) => i));
    s.close();
  },
  async large({ open, settled, ack, same }) {
    const s = await open();
    await settled(s);
    const text = 'ü€😀'.repeat(10) + 'x'.repeat(1 << 20);
    const [bytes, back] = await ack(s, 'measure', text);
    same('bytes', bytes, new TextEncoder().encode(text).length);
    if (back !== text) throw new Error('came back as ' + back.length + ' characters');
    s.close();
  },
  async binary({ open, settled, ack, same }) {
    const bytes = crypto.getRandomValues(new Uint8Array(50000));
    const sum = [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))].map((b) => b.toString(16).padStart(2, '0')).join('');
    for (const forceBase64 of [false, true]) {
      const s = await open({ forceBase64 });
      same('at once', await ack(s, 'digest', { a: bytes.buffer }), [[sum]]);
      await settled(s);
      same('later', await ack(s, 'digest', { a: bytes.buffer }), [[sum]]);
      s.close();
    }
  },
  async disconnect({ open, settled, once, same, sleep }) {
    const s = await open({ reconnection: true, reconnectionDelay: 100 });
    await settled(s);
    let n = 0, connects = 0;
    s.on('last', () => n++);
    s.on('connect', () => connects++);
    const reason = once(s, 'disconnect');
    s.emit('leave', 100);
    same('reason', (await reason)[0], 'io server disconnect');
    same('events before it', n, 100);
    await sleep(1500);
    same('reconnections', connects, 0);
  },
  async reconnect({ open, settled, within, ack, same }) {
    const s = await open({ reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
    await settled(s);
    // Not by once: a client that polls again after the server has forgotten its session hears an error, which is as good an end, and tries again.
    const heard = (event) => within(event, (resolve) => s.once(event, (...a) => resolve(a)));
    const gone = heard('disconnect'), back = heard('connect');
    s.emit('drop');
    const [reason] = await gone;
    if (!['transport close', 'transport error'].includes(reason)) throw new Error('reason: ' + reason);
    await back;
    same('after it', await ack(s, 'echo', 'wieder da 😀'), ['wieder da 😀']);
    s.close();
  },
  // the server does not want pages from here
  async refused({ connect, within }) {
    const s = connect();
    await within('refusal', (resolve, reject) => {
      s.on('connect', () => reject(new Error('connected from an origin that is not allowed')));
      s.on('connect_error', resolve);
    });
    s.close();
  },
};

// Sets up in the page what its scenarios use.
function equip([server, transport]) {
  const isDefault = transport === 'default';
  const engine = (s) => s.io.engine;
  const within = (what, f) => new Promise((resolve, reject) => {
    const t = setTimeout(() => reject(new Error('not within 30 s: ' + what)), 30000);
    f((v) => { clearTimeout(t); resolve(v); }, (e) => { clearTimeout(t); reject(e); });
  });
  const broken = (s, reject) => ['connect_error', 'error'].forEach((e) => s.on(e, (err) => reject(new Error(e + ': ' + (err && err.message || err)))));
  const connect = (extra) => io(server, Object.assign({ forceNew: true, reconnection: false }, isDefault ? {} : { transports: [transport] }, extra));
  const once = (s, event) => within(event, (resolve, reject) => { broken(s, reject); s.once(event, (...a) => resolve(a)); });
  window.equipment = {
    connect, within, once,
    open: async (extra) => { const s = connect(extra); await once(s, 'connect'); return s; },
    settled: async (s) => {
      if (isDefault && engine(s).transport.name !== 'websocket') await within('upgrade', (resolve) => engine(s).once('upgrade', resolve));
      const want = isDefault ? 'websocket' : transport;
      if (engine(s).transport.name !== want) throw new Error('transport ' + engine(s).transport.name + ', want ' + want);
    },
    ack: (s, ...args) => within('ack of ' + args[0], (resolve) => s.emit(...args, (...a) => resolve(a))),
    same: (what, got, want) => {
      const [g, w] = [got, want].map((v) => JSON.stringify(v));
      if (g !== w) throw new Error(what + ': got ' + g.slice(0, 300) + ', want ' + w.slice(0, 300));
    },
    sleep: (ms) => new Promise((r) => setTimeout(r, ms)),
    texts: ['plain', '', 'ü', 'naïve café', '日本語', '😀', 'a😀b👩‍👩‍👧c', '\u2028\u2029', '\u0000\u001e\u001f', '\\"\'<>&', '€'.repeat(3000), ':5:'],
  };
}

async function tab(context) {
  const page = await context.newPage();
  await page.goto(pageURL);
  await page.evaluate(equip, [server, transport]);
  return page;
}

const inTabs = {
  // two tabs of one browser: each gets what is its own; one that is closed leaves the other alone
  async tabs(context) {
    const tabs = [await tab(context), await tab(context)];
    const open = (page) => page.evaluate(async () => { window.mine = await equipment.open(); await equipment.settled(mine); window.heard = []; mine.on('echoed', (v) => heard.push(v)); });
    await Promise.all(tabs.map(open));
    const say = (page, v) => page.evaluate(async (v) => { mine.emit('echo', v); await equipment.ack(mine, 'echo', 'after it'); return heard; }, v);
    const heard = await Promise.all(tabs.map((page, i) => say(page, 'tab ' + i)));
    await tabs[0].close();
    heard.push(await say(tabs[1], 'alone'));
    const got = JSON.stringify(heard), want = '[["tab 0"],["tab 1"],["tab 1","alone"]]';
    if (got !== want) throw new Error('heard ' + got + ', want ' + want);
  },
};

(async () => {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = await tab(context);
  for (const name of scenarios) {
    try {
      if (inTabs[name]) await inTabs[name](context);
      else await page.evaluate('(' + inPage[name].toString().replace(/^async \w+/, 'async function') + ')(equipment)');
      console.log(JSON.stringify({ name, ok: true }));
    } catch (e) {
      console.log(JSON.stringify({ name, ok: false, detail: String(e && e.message || e) }));
    }
  }
  await context.close();
})().catch((e) => { console.error(e); process.exit(1); });
