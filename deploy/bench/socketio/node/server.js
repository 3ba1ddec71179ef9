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
  const wall = BigInt(Date.now()) * 1000000n - process.hrtime.bigint();
  const one = () => { io.emit('data', { t: String(wall + process.hrtime.bigint()), p: pad }); i++; };
  const step = () => {
    // flat out: a few at a time, so that the sockets get their turn
    if (gap === 0) { for (let k = 0; k < 10 && i < n; k++) one(); } else { while (i < n && i * gap <= now()) one(); }
    if (i < n) setImmediate(step); else res.end('done');
  };
  step();
});
const io = new Server(server, { allowEIO3: true, perMessageDeflate: false, httpCompression: false });
server.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
