// Package socketio is a Socket.IO server for clients of generations 1.x to 4.x, and the client that tt uses.
//
// It owns Engine.IO 3 and 4 (long polling, WebSocket, and the change from the one to the other), the Socket.IO packets on top,
// heartbeats, limits, back-pressure, and the passing of a request to the process that owns its session. It refuses rooms,
// namespaces but the default one, JSONP, and outgoing binary attachments: who hears what is the caller's business, and payloads here are JSON.
//
// # How a connection works
//
// What comes in is handled one message at a time by whoever read it: the connection's one reading goroutine on WebSocket, the HTTP
// handler on polling. While the caller's handler runs, nothing more is read: TCP carries the back-pressure to the peer, and the
// heartbeat timer keeps the peer patient.
//
// What goes out is a [Message], encoded once whatever the number of receivers, with its WebSocket frame header in front. It is put into the
// connection's bounded queue. A few goroutines, one for each processor at most and none while there is nothing to do, give every connection that has something
// queued its turn: one system call for all that has piled up, which never waits. Where the kernel has no more room, a goroutine of the connection's own takes
// over until the queue is empty; it is the only one that a stalled peer holds up. So an idle WebSocket connection costs one goroutine, a small read buffer and
// no write buffer.
//
// # Why gorilla/websocket
//
// Three libraries were compared: coder/websocket, lxzan/gws, gorilla/websocket. All three parse what they are sent correctly. What decided:
//
//   - Prepared frames and joined writes need the raw connection under the library. gws and gorilla give it (NetConn); coder does not, and
//     has no prepared frames, so each receiver would cost an encoding and a system call per message.
//   - The read loop must be ours, to hold it while a handler is busy and to borrow the buffer only when a message has come. gorilla's NextReader blocks
//     with nothing borrowed; gws owns the loop and hands over whole messages by callback, after it has buffered them.
//   - Per connection gorilla keeps one read buffer of the size we ask for (512 bytes) and, with a pool, no write buffer; larger reads bypass the small one.
//   - Control frames can be taken over completely (ping, pong and close handlers), so that only one party ever writes.
//
// docs/socketio.md has the figures.
package socketio
