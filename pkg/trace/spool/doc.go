// Package spool owns what one run has produced and the server has not yet made durable: an append-only log of records on disk, which is the only
// queue between the command and the network. The command's reader appends, the sender reads, an acknowledgement trims. So memory does not depend on how far the
// server is behind, and a killed process leaves behind everything it had read.
//
// A spool is a directory, one per run:
//
//	lock            held (flock) while a process works on the run
//	meta.json       what is needed to send the run later: where to, as whom, which task; meta.copy.json holds it again
//	00000001.seg    records, 4 MiB of them; named by a counter
//
// A segment is a header and then records, each with its length, a checksum, its src number, its time and its kind. A damaged record costs itself:
// the next sound one is looked for behind it, and what is missing between them becomes a gap.
// Whole segments are deleted: when all of one is acknowledged, or, oldest first, when the spool is at its limit. When the disk refuses, segments are made in
// memory instead, with a small limit of their own.
//
// The package knows nothing of Socket.IO, of the command, or of what records say. It refuses to guess: bytes whose checksum is wrong are not given out.
package spool
