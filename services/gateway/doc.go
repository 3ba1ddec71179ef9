// Package gateway brings the log to viewers: over Socket.IO, live and from the first byte, and over HTTP, as the page and the read API.
//
// The way of a chunk: feed (heard once for all viewers of a client, kept for a moment), viewer (one pump per socket, which takes it from
// the feed or reads it from the log), encode (once per chunk and protocol), socket (what the viewer asked for). Beside it, roster knows who runs.
//
// The package keeps nothing that another gateway, or its own restart, would miss: a viewer's place is the viewer's cursor. It never writes to the
// log, but for the deletion of a run.
//
// Memory is bounded by what is configured, not by what viewers do:
//
//	clients watched × (--gateway-ring)            recent chunks, shared by all viewers of a client
//	+ --gateway-history-cache                     chunks read back, shared by all viewers
//	+ viewers × (2 × 256 KiB + a chunk's JSON)    what a pump has in its hands, beside the socket's own send buffer
//	+ --gateway-downloads × 2 MiB                 HTTP reads
//	+ runs known × about 1 KiB                    the roster
//
// The bus bounds its own history readers. A chunk is charged four times its size, for its encodings.
package gateway
