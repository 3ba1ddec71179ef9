// Package trace sends a run's output to a TaskTracer server, exactly once, without ever making its producer wait for the network. It is what the command
// tt is built on, and it can be embedded in any Go program:
//
//	run, err := trace.Start(trace.Config{URL: "http://localhost:8005", Token: token, ID: "worker-7", Name: "nightly-import", Command: "import --all"})
//	if err != nil {
//		return err // the configuration is wrong; an absent server is no error
//	}
//	fmt.Fprintln(run.Stdout(), "42 rows imported")
//	fmt.Fprintln(run.Stderr(), "1 row refused")
//	outcome := run.Close(trace.Exit{Code: 0})
//
// What is written becomes numbered records in a spool (package spool), which is the only queue; a sender reads from it, and the spool is trimmed as the server
// acknowledges. What a run could not deliver stays on disk and is sent later by Flush. The package is a package of its own, beside the server's, because
// both tt and programs that embed it need it, and it links neither NATS nor Prometheus.
//
// It owns: records (never a character broken over two of them), redaction on the way, the client's side of the wire, reconnecting, lingering. It refuses to know of
// processes, terminals, flags and files other than spools.
package trace
