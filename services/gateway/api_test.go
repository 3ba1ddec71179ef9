package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/auth"
	"tasktracer/pkg/frame"
)

// answerOf is what an HTTP request was answered with.
type answerOf struct {
	status int
	header http.Header
	body   string
}

func (g *gate) get(token, path string, header ...string) answerOf {
	g.t.Helper()
	return g.request(http.MethodGet, token, path, header...)
}

func (g *gate) request(method, token, path string, header ...string) answerOf {
	g.t.Helper()
	req, err := http.NewRequestWithContext(within(g.t), method, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answerOf{resp.StatusCode, resp.Header, string(body)}
}

func known(frame.Run) bool { return true }

func TestLog(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	token := r.browser("ns")
	w := r.run(key("c")).out("one\ntwo").err("\x1b[31mERR\x1b[0m\n").sync().out("\nthree\xff\n").exit("3").leave()
	w.known(g, "is gone", gone)
	const whole = "one\ntwo\x1b[31mERR\x1b[0m\n\nthree\xff\n"
	log := "/api/v1/runs/" + w.key.Run + "/log"
	for _, c := range []struct {
		name, query, rng string
		status           int
		body, header     string
	}{
		{"whole", "", "", 200, whole, fmt.Sprintf("Content-Length: %d", len(whole))},
		{"range", "", "bytes=2-5", 206, whole[2:6], fmt.Sprintf("Content-Range: bytes 2-5/%d", len(whole))},
		{"range to the end", "", "bytes=4-", 206, whole[4:], fmt.Sprintf("Content-Range: bytes 4-%d/%d", len(whole)-1, len(whole))},
		{"range beyond the end", "", "bytes=4-999", 206, whole[4:], fmt.Sprintf("Content-Range: bytes 4-%d/%d", len(whole)-1, len(whole))},
		{"last bytes", "", "bytes=-3", 206, whole[len(whole)-3:], ""},
		{"more last bytes than there are", "", "bytes=-999", 206, whole, ""},
		{"in a later chunk", "", "bytes=20-22", 206, whole[20:23], ""},
		{"several ranges are the whole", "", "bytes=0-1,3-4", 200, whole, ""},
		{"rubbish is the whole", "", "bytes=x", 200, whole, ""},
		{"beyond", "", "bytes=999-", 416, "", fmt.Sprintf("Content-Range: bytes */%d", len(whole))},
		{"no last bytes", "", "bytes=-0", 416, "", ""},
		{"line 2", "?lines=2-2", "", 200, "two\x1b[31mERR\x1b[0m\n", "Accept-Ranges: none"},
		{"lines 2 and 3", "?lines=2-3", "", 200, "two\x1b[31mERR\x1b[0m\n\n", ""},
		{"from line 4", "?lines=4-", "", 200, "three\xff\n", ""},
		{"the last line", "?lines=-1", "", 200, "three\xff\n", ""},
		{"more last lines than there are", "?lines=-99", "", 200, whole, ""},
		{"lines beyond", "?lines=90-99", "", 200, "", ""},
		{"lines with a range", "?lines=1-1", "bytes=0-0", 200, "one\n", ""},
		{"stderr", "?streams=stderr", "", 200, "\x1b[31mERR\x1b[0m\n", ""},
		{"stdout", "?streams=stdout", "", 200, "one\ntwo\nthree\xff\n", ""},
		{"stripped", "?ansi=strip", "", 200, "one\ntwoERR\n\nthree\xff\n", ""},
		{"stripped lines of stderr", "?ansi=strip&streams=stderr&lines=2-2", "", 200, "ERR\n", ""},
		{"named", "?task=t&client=c", "", 200, whole, ""},
		{"download", "?download=1", "", 200, whole, `Content-Disposition: attachment; filename="t-c-` + w.key.Run + `.log"`},
		{"another task", "?task=u", "", 404, "", ""},
		{"bad lines", "?lines=0-3", "", 400, "", ""},
		{"lines backwards", "?lines=3-2", "", 400, "", ""},
		{"bad stream", "?streams=stdin", "", 400, "", ""},
		{"bad ansi", "?ansi=maybe", "", 400, "", ""},
		{"bad format", "?format=xml", "", 400, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h []string
			if c.rng != "" {
				h = []string{"Range", c.rng}
			}
			a := g.get(token, log+c.query, h...)
			if a.status != c.status {
				t.Fatalf("status = %d, want %d: %s", a.status, c.status, a.body)
			}
			if c.status < 300 && a.body != c.body {
				t.Errorf("body = %q, want %q", a.body, c.body)
			}
			if k, v, ok := strings.Cut(c.header, ": "); ok && a.header.Get(k) != v {
				t.Errorf("%s = %q, want %q", k, a.header.Get(k), v)
			}
			if c.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("an error of type %q", a.header.Get("Content-Type"))
			}
		})
	}
	if a := g.request(http.MethodHead, token, log); a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(whole)) || a.body != "" {
		t.Errorf("HEAD = %d, %v", a.status, a.header)
	}
	want := fmt.Sprintf(`{"seq":2,"at":1001,"type":"STDOUT","offset":0,"line":1,"data":"one\ntwo"}
{"seq":3,"at":1002,"type":"STDERR","offset":7,"line":2,"data":"\u001b[31mERR\u001b[0m\n"}
{"seq":4,"at":1003,"type":"STDOUT","offset":20,"line":3,"b64":"CnRocmVl/wo="}
{"seq":5,"at":1004,"type":"EXIT","offset":%d,"line":5,"exit":{"code":3,"signal":null,"message":""}}
`, len(whole))
	a := g.get(token, log+"?format=ndjson")
	start, rest, _ := strings.Cut(a.body, "\n")
	if d := cmp.Diff(want, rest); d != "" {
		t.Errorf("ndjson differs (-want +got):\n%s", d)
	}
	if !strings.HasSuffix(start, `"type":"START","offset":0,"line":1,"start":{"task":{"name":"t","cmd":"echo hi"}}}`) {
		t.Errorf("START = %s", start)
	}
	a = g.get(token, log+"?format=ndjson&lines=2-3")
	if d := cmp.Diff(`{"seq":2,"at":1001,"type":"STDOUT","offset":4,"line":2,"data":"two"}
{"seq":3,"at":1002,"type":"STDERR","offset":7,"line":2,"data":"\u001b[31mERR\u001b[0m\n"}
{"seq":4,"at":1003,"type":"STDOUT","offset":20,"line":3,"data":"\n"}
`, a.body); d != "" {
		t.Errorf("ndjson of lines 2 and 3 differs (-want +got):\n%s", d)
	}
}

func TestListsAndRun(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	token := r.browser("ns")
	odd := frame.Key{Namespace: "ns", Task: "a/<b> *", Client: ""}
	r.run(odd).out("x").sync().known(g, "is there", known)
	r.run(frame.Key{Namespace: "other", Task: "secret", Client: "c"}).sync().known(g, "is there", known)
	first := r.run(key("c")).out("1\n").exit("0").leave().known(g, "is gone", gone)
	second := r.run(key("c")).out("1\n2\n").sync().known(g, "is there", known)
	r.run(key("e")).out("1\n").exit("3").leave().known(g, "is gone", gone)
	r.run(key("f")).out("1\n").exit("3").leave().known(g, "is gone", gone)
	r.run(key("f")).out("1\n").exit("0").leave().known(g, "is gone", gone)
	r.run(key("d")).sync().known(g, "is there", known)

	var tasks struct {
		Namespace string
		Tasks     []struct {
			Task                           string
			Clients, Runs, Running, Failed int
			Latest                         struct{ Client string }
		}
	}
	decode(t, g.get(token, "/api/v1/tasks"), &tasks)
	if d := cmp.Diff(`{ns [{a/<b> * 1 1 1 0 {}} {t 4 6 2 1 {d}}]}`, fmt.Sprint(tasks)); d != "" {
		t.Errorf("tasks differ (-want +got):\n%s", d)
	}
	var clients struct {
		Clients []struct {
			Client        string
			Runs, Running int
			Latest        runJSON
		}
	}
	decode(t, g.get(token, "/api/v1/tasks/t/clients"), &clients)
	if len(clients.Clients) != 4 || clients.Clients[0].Client != "c" || clients.Clients[0].Runs != 2 || clients.Clients[0].Latest.Run != second.key.Run {
		t.Errorf("clients = %+v", clients)
	}
	decode(t, g.get(token, "/api/v1/tasks/a%2F%3Cb%3E%20*/clients"), &clients)
	if len(clients.Clients) != 1 || clients.Clients[0].Client != "" {
		t.Errorf("clients of a task with an odd name = %+v", clients)
	}
	var runs struct {
		Runs []runJSON
		Next *string
	}
	decode(t, g.get(token, "/api/v1/tasks/t/runs?client=c&limit=1"), &runs)
	if len(runs.Runs) != 1 || runs.Runs[0].Run != second.key.Run || runs.Next == nil {
		t.Fatalf("the first page = %+v", runs)
	}
	decode(t, g.get(token, "/api/v1/tasks/t/runs?client=c&limit=1&before="+*runs.Next), &runs)
	if len(runs.Runs) != 1 || runs.Runs[0].Run != first.key.Run || runs.Next != nil {
		t.Errorf("the second page = %+v", runs)
	}
	var run runJSON
	decode(t, g.get(token, "/api/v1/runs/"+second.key.Run), &run)
	if run.Bytes != 4 || run.Lines != 2 || run.State != "running" || run.Command != "echo hi" || string(run.Code) != "null" {
		t.Errorf("run = %+v", run)
	}
	decode(t, g.get(token, "/api/v1/runs/"+first.key.Run), &run)
	if run.State != "exited" || string(run.Code) != "0" || run.Connected || run.EndedAt == nil {
		t.Errorf("run = %+v", run)
	}
	decode(t, g.get(token, "/api/v1/token"), &struct{}{})
}

func decode(t testing.TB, a answerOf, to any) {
	t.Helper()
	if a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), to); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

func TestAPIRefuses(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	mine := r.run(key("c")).out("x").sync().known(g, "is there", known)
	twin := mine.key
	twin.Client = "twin"
	r.run(twin).known(g, "is there", known)
	foreign := r.run(frame.Key{Namespace: "other", Task: "t", Client: "c"}).known(g, "is there", known)
	browser := r.browser("ns")
	scoped := r.token(auth.Claims{Type: auth.Browser, Namespace: "ns", Tasks: []string{"u"}}, time.Hour)
	base := r.token(auth.Claims{Type: auth.Base, Namespace: "ns"}, time.Hour)
	expired := until("ns", time.Unix(1000, 0))
	for _, c := range []struct {
		name, method, token, path string
		status                    int
		code                      string
	}{
		{"no token", "GET", "", "/api/v1/tasks", 401, "token_missing"},
		{"rubbish", "GET", "x.y.z", "/api/v1/tasks", 401, "token_invalid"},
		{"expired", "GET", expired, "/api/v1/tasks", 401, "token_expired"},
		{"base for reading", "GET", base, "/api/v1/tasks", 403, "forbidden"},
		{"browser for deleting", "DELETE", browser, "/api/v1/runs/" + mine.key.Run, 403, "forbidden"},
		{"two tokens", "GET", "", "/api/v1/tasks?accessToken=a&accessToken=b", 400, "bad_request"},
		{"unknown run", "GET", browser, "/api/v1/runs/nothing", 404, "not_found"},
		{"another's run", "GET", browser, "/api/v1/runs/" + foreign.key.Run, 404, "not_found"},
		{"another's log", "GET", browser, "/api/v1/runs/" + foreign.key.Run + "/log", 404, "not_found"},
		{"another's deletion", "DELETE", base, "/api/v1/runs/" + foreign.key.Run, 404, "not_found"},
		{"out of scope", "GET", scoped, "/api/v1/runs/" + mine.key.Run + "/log", 404, "not_found"},
		{"out of scope, a task", "GET", scoped, "/api/v1/tasks/t/clients", 404, "not_found"},
		{"two of one id", "GET", browser, "/api/v1/runs/" + mine.key.Run, 409, "ambiguous"},
		{"which of them", "GET", browser, "/api/v1/runs/" + mine.key.Run + "?client=twin", 200, ""},
		{"no such address", "GET", browser, "/api/v1/nothing", 404, "not_found"},
		{"no such method", "POST", browser, "/api/v1/tasks", 405, "method_not_allowed"},
		{"bad limit", "GET", browser, "/api/v1/tasks/t/runs?limit=0", 400, "bad_request"},
		{"bad before", "GET", browser, "/api/v1/tasks/t/runs?before=x", 400, "bad_request"},
		{"search for nothing", "GET", browser, "/api/v1/runs/" + foreign.key.Run + "/search", 400, "bad_request"},
		{"bad expression", "GET", browser, "/api/v1/runs/" + mine.key.Run + "/search?client=c&regex=1&q=(", 400, "bad_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.request(c.method, c.token, c.path)
			var p problemDetails
			_ = json.Unmarshal([]byte(a.body), &p)
			if a.status != c.status || p.Code != c.code || c.code != "" && p.Status != c.status {
				t.Errorf("%d %q, want %d %q: %s", a.status, p.Code, c.status, c.code, a.body)
			}
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers = %v", a.header)
			}
		})
	}
	if a := g.get("", "/api/v1/tasks?accessToken="+browser); a.status != 200 {
		t.Errorf("a token in the address: %d", a.status)
	}
}

func TestSearch(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	long := strings.Repeat("x", 100<<10) + "needle" + strings.Repeat("y", 70<<10)
	w := r.run(key("c")).out("an Error\nno\n\x1b[1merr").sync().err("or😀 error\n").out(long + "\nlast error").exit("0").leave()
	w.known(g, "is gone", gone)
	base := "/api/v1/runs/" + w.key.Run + "/search?"
	for _, c := range []struct {
		name, query string
		lines       string
		matches     string
		end         string
	}{
		{"plain", "q=error", "[1 3 5]", "[[[3 8]] [[0 5] [8 13]] [[5 10]]]", `{"done":true,"hits":3,"lines":4,"more":false,"reason":"","nextLine":null}`},
		{"case", "q=Error&case=1", "[1]", "[[[3 8]]]", ""},
		{"expression", "q=^last%20.*r$&regex=1", "[5]", "[[[0 10]]]", ""},
		{"limit", "q=error&limit=2", "[1 3]", "[[[3 8]] [[0 5] [8 13]]]", `{"done":true,"hits":2,"lines":4,"more":true,"reason":"limit","nextLine":5}`},
		{"from", "q=error&from=2", "[3 5]", "[[[0 5] [8 13]] [[5 10]]]", ""},
		{"stderr", "q=error&streams=stderr", "[3]", "[[[5 10]]]", ""},
		{"in a long line", "q=needle", "[4]", "[[[200 206]]]", ""},
		{"beyond ASCII", "q=%F0%9F%98%80", "[3]", "[[[5 7]]]", ""},
		{"nothing", "q=nowhere", "[]", "[]", ""},
		{"no expression", "q=.*", "[]", "[]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.get(r.browser("ns"), base+c.query)
			if a.status != 200 {
				t.Fatalf("%d: %s", a.status, a.body)
			}
			lines := strings.Split(strings.TrimSpace(a.body), "\n")
			last := lines[len(lines)-1]
			at, matches := []uint64{}, [][][2]int{}
			for _, l := range lines[:len(lines)-1] {
				var h hitJSON
				if err := json.Unmarshal([]byte(l), &h); err != nil {
					t.Fatal(err)
				}
				at = append(at, h.Line)
				matches = append(matches, h.Matches)
			}
			if fmt.Sprint(at) != c.lines || fmt.Sprint(matches) != c.matches {
				t.Errorf("lines %v, matches %v, want %s and %s", at, matches, c.lines, c.matches)
			}
			if c.end != "" && last != c.end {
				t.Errorf("it ended with %s, want %s", last, c.end)
			}
			if !strings.HasPrefix(last, `{"done":true`) {
				t.Errorf("the last line is %s", last)
			}
		})
	}
}

// An expression that is small to send and large to compare is refused: it would keep a processor beyond all time-outs.
func TestSearchRefusesLargeExpressions(t *testing.T) {
	for _, expr := range []string{`(?:[a-z]?[0-9]?.?){1000}x`, `(?:(?:a?b?c?){30}d?){33}e`, strings.Repeat(`\pL{1000}`, 90)} {
		if _, _, err := finder(expr, true, true); err == nil {
			t.Errorf("%.40s is taken, with %d steps", expr, steps(expr))
		}
	}
	for _, expr := range []string{`error|panic`, `^\d{4}-\d{2}-\d{2}T.{0,200}(?i:failed)`, `[\p{Han}]{1,100}`, `.{500}`} {
		if _, _, err := finder(expr, true, false); err != nil {
			t.Errorf("%s is refused: %v", expr, err)
		}
	}
}

func TestPage(t *testing.T) {
	r := newRig(t)
	g := r.gateway()
	good := r.browser("ns")
	for _, c := range []struct {
		name, path string
		status     int
		says       string
	}{
		{"no token", "/", 200, "<h1>no accessToken found</h1>"},
		{"no token, a task", "/tasks/x", 200, "<h1>no accessToken found</h1>"},
		{"bad token", "/tasks/x/?accessToken=abc", 200, "<h1>invalid accessToken</h1>"},
		{"client's token", "/?accessToken=" + r.token(auth.Claims{Type: auth.Client, Namespace: "ns"}, time.Hour), 200, "<h1>invalid accessToken</h1>"},
		{"expired", "/?accessToken=" + until("ns", time.Unix(1000, 0)), 200, "<h1>accessToken expired</h1>"},
		{"twice", "/?accessToken=a&accessToken=b", 400, "<h1>accessToken is given more than once</h1>"},
		{"good", "/?accessToken=" + good, 200, "<html"},
		{"good, odd name", "/tasks/a%2Fb%20%3Cimg%3E/?accessToken=" + good + "&id=x", 200, "<html"},
		{"unknown", "/nothing", 404, "<h1>Not Found</h1>"},
		{"hidden", "/.gitkeep", 404, "<h1>Not Found</h1>"},
		{"above", "/..%2f..%2fgo.mod", 404, "<h1>Not Found</h1>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.get("", c.path)
			if a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%d %.200s, want %d %s", a.status, a.body, c.status, c.says)
			}
			if strings.Contains(a.body, "<img>") || strings.HasPrefix(c.name, "good") && strings.Contains(a.body, "<h1>") {
				t.Errorf("the page says %s", a.body)
			}
			if !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") || a.header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("headers = %v", a.header)
			}
		})
	}
}
