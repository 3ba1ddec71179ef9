// Socket.IO clients of any generation, driven by lines on stdin: each is a JSON object {op, id, …}. What they hear is told by lines on stdout:
// {id, event, args}. With "connect" the client is made: {alias, url, options}. "emit": {event, args}; with ack: true the answer comes as the event "ack:<event>".
// "close" leaves. Ends when stdin does.
'use strict';
const readline = require('readline');
const peers = new Map();

function tell(id, event, args) {
  process.stdout.write(JSON.stringify({ id, event, args }) + '\n');
}

function connect({ id, alias, url, options }) {
  const socket = require(alias)(url, Object.assign({ forceNew: true }, options));
  peers.set(id, socket);
  // every event of the server passes here, in every generation
  const onevent = socket.onevent;
  socket.onevent = function (packet) {
    tell(id, packet.data[0], packet.data.slice(1));
    return onevent.call(this, packet);
  };
  socket.on('connect', () => tell(id, ':connect', []));
  socket.on('disconnect', (reason) => tell(id, ':disconnect', [String(reason)]));
  for (const e of ['connect_error', 'error']) socket.on(e, (err) => tell(id, ':error', [String((err && err.message) || err)]));
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const m = JSON.parse(line);
  if (m.op === 'connect') return connect(m);
  const socket = peers.get(m.id);
  if (m.op === 'close') {
    peers.delete(m.id);
    return socket.close();
  }
  const args = (m.args || []).slice();
  if (m.ack) args.push((...answer) => tell(m.id, 'ack:' + m.event, answer));
  socket.emit(m.event, ...args);
}).on('close', () => process.exit(0));
