// Node's socket.io as a peer of the benchmark. Prints its port; GET /fan?n=&size=&gap= emits n events of size bytes, gap microseconds apart.
'use strict';
const http = require('http');
const { Server } = require('socket.io');
const server = http.createServer((req, res) => {
  const u = new URL(req.url, 'http://x');
  if (u.pathname !== '/fan') { res.end(); return; }
  const n = Number(u.searchParams.get('n')), size = Number(u.searchParams.get('size')), gap = Number(u.searchParams.get('gap'));
  const begin = process.hrtime.bigint();
  let i = 0;
  const pad = 'x'.repeat(Math.max(0, size - 33));
  const now = () => Number(process.hrtime.bigint() - begin) / 1000;
  const wall = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n - process.hrtime.bigint();
  // each event says when it was due; flat out, that is now
  const due = () => (gap === 0 ? process.hrtime.bigint() : begin + BigInt(Math.round(i * gap * 1000)));
  const one = () => { io.emit('data', { t: String(wall + due()), p: pad }); i++; };
  const step = () => {
    // flat out: a few at a time, so that the sockets get their turn
    if (gap === 0) { for (let k = 0; k < 10 && i < n; k++) one(); } else { while (i < n && i * gap <= now()) one(); }
    if (i >= n) res.end('done');
    else if (i * gap - now() > 3000) setTimeout(step, (i * gap - now()) / 1000 - 2); // leave the processor to others
    else setImmediate(step);
  };
  step();
});
const io = new Server(server, { allowEIO3: true, perMessageDeflate: false, httpCompression: false });
server.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
