package ingest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"tasktracer/pkg/frame"
)

func TestParseHello(t *testing.T) {
	long := strings.Repeat("é", 600)
	type told struct {
		Token, ID, Name, Task, Run string
		Named, V2, BadID, Retold   bool
	}
	for name, tc := range map[string]struct {
		arg  string
		want told
	}{
		"older client, environment dropped": {`{"type":"client","token":"T","id":"cli-1","task":{"name":"test","env":{"SECRET":"x"},"cmd":"echo hi"}}`,
			told{Token: "T", ID: "cli-1", Name: "test", Named: true, Task: `{"cmd":"echo hi","name":"test"}`}},
		"environment written otherwise": {`{"task":{"\u0065nv":1,"name":"t"}}`, told{Name: "t", Named: true, Task: `{"name":"t"}`}},
		"numbering client": {`{"token":"T","id":"a","task":{"name":"t"},"v":2,"run":"abcdefgh","next":7,"now":5}`,
			told{Token: "T", ID: "a", Name: "t", Named: true, Task: `{"name":"t"}`, Run: "abcdefgh", V2: true, Retold: true}},
		"nothing":               {``, told{}},
		"null":                  {`null`, told{}},
		"a number":              {`12`, told{}},
		"no task":               {`{"token":"T"}`, told{Token: "T"}},
		"task of a wrong type":  {`{"task":"x"}`, told{}},
		"task is null":          {`{"task":null}`, told{}},
		"empty name":            {`{"task":{"name":""}}`, told{}},
		"name with a dash":      {`{"task":{"name":"-x"}}`, told{Name: "-x"}},
		"name is odd":           {`{"task":{"name":"a/<b> *"}}`, told{Name: "a/<b> *", Named: true, Task: `{"name":"a/\u003cb\u003e *"}`}},
		"name is a number":      {`{"task":{"name":12}}`, told{Name: "12", Named: true, Task: `{"name":12}`}},
		"name is an object":     {`{"task":{"name":{}}}`, told{}},
		"name too long":         {`{"task":{"name":"` + strings.Repeat("n", 1025) + `"}}`, told{Name: strings.Repeat("n", 1025)}},
		"id is a number":        {`{"id":7}`, told{ID: "7"}},
		"id is null":            {`{"id":null}`, told{}},
		"id is an array":        {`{"id":["a"]}`, told{BadID: true}},
		"id of 1,200 bytes":     {`{"id":"` + long + `"}`, told{ID: long, BadID: true}},
		"token of a wrong type": {`{"token":{"a":1},"v":"2"}`, told{}},
	} {
		h := parseHello(json.RawMessage(tc.arg))
		got := told{h.token, h.id, h.name, string(h.task), h.run, h.named, h.v2, h.idErr != nil, h.retold}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: parseHello(%.80q) differs (-want +got):\n%s", name, tc.arg, d)
		}
	}
}

func TestParseHelloClipsAHugeTask(t *testing.T) {
	cmd := strings.Repeat("ü", maxTask)
	h := parseHello(json.RawMessage(fmt.Sprintf(`{"task":{"name":"t","cmd":%q,"more":[1]}}`, cmd)))
	var task struct{ Name, Cmd string }
	if err := json.Unmarshal(h.task, &task); err != nil || !h.named {
		t.Fatalf("task %.40q: %v", h.task, err)
	}
	if task.Name != "t" || len(h.task) > maxTask || !strings.HasPrefix(cmd, task.Cmd) || len(task.Cmd) < maxTask/10 || !utf8.ValidString(task.Cmd) {
		t.Errorf("kept %d bytes of a command of %d, name %q", len(task.Cmd), len(cmd), task.Name)
	}
}

func TestLegacyData(t *testing.T) {
	raw := func(s string) []frame.Record { return []frame.Record{{At: 1, Kind: frame.Raw, Data: []byte(s)}} }
	out := func(k frame.Kind, s string) []frame.Record {
		return []frame.Record{{At: 1, Kind: k, Data: []byte(s)}}
	}
	for name, tc := range map[string]struct {
		arg  string
		want []frame.Record
	}{
		"stdout":       {`{"type":"STDOUT","data":"hi\n"}`, out(frame.Stdout, "hi\n")},
		"stderr":       {`{"data":"oops","type":"STDERR"}`, out(frame.Stderr, "oops")},
		"empty text":   {`{"type":"STDOUT","data":""}`, out(frame.Stdout, "")},
		"unicode":      {`{"type":"STDOUT","data":"\u00fc😀"}`, out(frame.Stdout, "ü😀")},
		"extra key":    {`{"type":"STDOUT","data":"a","x":1}`, raw(`{"type":"STDOUT","data":"a","x":1}`)},
		"other type":   {`{"type":"stdout","data":"a"}`, raw(`{"type":"stdout","data":"a"}`)},
		"data no text": {`{"type":"STDOUT","data":1}`, raw(`{"type":"STDOUT","data":1}`)},
		"data null":    {`{"type":"STDOUT","data":null}`, raw(`{"type":"STDOUT","data":null}`)},
		"no data":      {`{"type":"STDOUT"}`, raw(`{"type":"STDOUT"}`)},
		"text":         {`"plain"`, raw(`"plain"`)},
		"number":       {`12`, raw(`12`)},
		"null":         {`null`, raw(`null`)},
		"array":        {`["a"]`, raw(`["a"]`)},
	} {
		got, dropped := legacyData(json.RawMessage(tc.arg), true, 1)
		if d := cmp.Diff(tc.want, got); d != "" || dropped != 0 {
			t.Errorf("%s: legacyData(%q) drops %d and differs (-want +got):\n%s", name, tc.arg, dropped, d)
		}
	}
	got, _ := legacyData(nil, false, 1)
	if d := cmp.Diff([]frame.Record{{At: 1, Kind: frame.Raw}}, got); d != "" {
		t.Errorf("data without an argument differs (-want +got):\n%s", d)
	}
}

func TestLegacyDataSplits(t *testing.T) {
	text := "x" + strings.Repeat("😀", frame.MaxRecord/2)
	arg, _ := json.Marshal(map[string]string{"type": "STDERR", "data": text})
	recs, _ := legacyData(arg, true, 1)
	var all strings.Builder
	for i, r := range recs {
		if r.Kind != frame.Stderr || len(r.Data) > frame.MaxRecord || !utf8.Valid(r.Data) {
			t.Errorf("record %d: kind %v, %d bytes, valid UTF-8 %v", i, r.Kind, len(r.Data), utf8.Valid(r.Data))
		}
		all.Write(r.Data)
	}
	if all.String() != text || len(recs) != 3 {
		t.Errorf("%d records of %d bytes together, want 3 of %d, the same text", len(recs), all.Len(), len(text))
	}
}

func TestLegacyDataTooLarge(t *testing.T) {
	arg := json.RawMessage(`["` + strings.Repeat("x", frame.MaxRecord) + `"]`)
	recs, dropped := legacyData(arg, true, 1)
	if dropped != len(arg) || len(recs) != 1 || recs[0].Kind != frame.Note {
		t.Fatalf("legacyData drops %d and makes %d records, want %d and one NOTE", dropped, len(recs), len(arg))
	}
	if n, err := frame.UnmarshalNote(recs[0].Data); err != nil || n.LostBytes != uint64(len(arg)) {
		t.Errorf("NOTE %+v, %v, want %d lost bytes", n, err, len(arg))
	}
}

func TestExitOf(t *testing.T) {
	for name, tc := range map[string]struct {
		arg, code, signal string
		ok                bool
	}{
		"code":             {`{"code":0}`, "0", "", true},
		"signal":           {`{"code":2,"signal":"SIGTERM"}`, "2", `"SIGTERM"`, true},
		"null stays null":  {`{"code":null,"signal":null}`, "null", "null", true},
		"code is an array": {`{"code":[1]}`, "[1]", "", true},
		"empty":            {`{}`, "", "", true},
		"a number":         {`5`, "", "", true},
		"text":             {`"x"`, "", "", true},
		"huge":             {`{"code":"` + strings.Repeat("x", maxExitValue) + `"}`, "", "", true},
		"null":             {`null`, "", "", false},
		"nothing":          {``, "", "", false},
	} {
		info, ok := exitOf(json.RawMessage(tc.arg))
		if string(info.Code) != tc.code || string(info.Signal) != tc.signal || ok != tc.ok {
			t.Errorf("%s: exitOf(%.40q) = %q, %q, %v, want %q, %q, %v", name, tc.arg, info.Code, info.Signal, ok, tc.code, tc.signal, tc.ok)
		}
	}
}

func TestParsePacket(t *testing.T) {
	note, _ := frame.NoteInfo{Text: "dropped", LostFrom: 3, LostTo: 5, LostBytes: 9}.Marshal()
	for name, tc := range map[string]struct {
		arg  string
		want []frame.Record
	}{
		"empty": {`[]`, []frame.Record{}},
		"output": {`[{"seq":1,"at":5,"type":"STDOUT","data":"a"},{"seq":2,"at":6,"type":"STDERR","b64":"/wA="}]`,
			[]frame.Record{{Src: 1, At: 5, Kind: frame.Stdout, Data: []byte("a")}, {Src: 2, At: 6, Kind: frame.Stderr, Data: []byte{0xff, 0}}}},
		"note": {`[{"seq":5,"at":5,"type":"NOTE","data":"dropped","lost":{"from":3,"to":5,"bytes":9}}]`,
			[]frame.Record{{Src: 5, At: 5, Kind: frame.Note, Data: note}}},
		"unknown field": {`[{"seq":1,"type":"STDOUT","data":"","future":1}]`, []frame.Record{{Src: 1, Kind: frame.Stdout, Data: []byte{}}}},
	} {
		got, err := parsePacket(json.RawMessage(tc.arg))
		if d := cmp.Diff(tc.want, got); d != "" || err != nil {
			t.Errorf("%s: parsePacket = %v, differs (-want +got):\n%s", name, err, d)
		}
	}
	big := strings.Repeat("x", frame.MaxRecord)
	rec := func(seq int, data string) string {
		return fmt.Sprintf(`{"seq":%d,"type":"STDOUT","data":%q}`, seq, data)
	}
	whole := strings.Join([]string{rec(1, big), rec(2, big), rec(3, big), rec(4, big)}, ",")
	if recs, err := parsePacket(json.RawMessage("[" + whole + "]")); err != nil || len(recs) != 4 {
		t.Errorf("a packet of exactly 1 MiB: %v, %d records", err, len(recs))
	}
	for name, tc := range map[string]struct {
		arg  string
		want error
	}{
		"no argument":       {``, errMalformed},
		"object":            {`{"type":"STDOUT","data":"x"}`, errMalformed},
		"not JSON":          {`[{`, errMalformed},
		"numbers":           {`[1,2]`, errMalformed},
		"seq 0":             {`[{"seq":0,"type":"STDOUT","data":"x"}]`, errMalformed},
		"seq too large":     {`[{"seq":18446744073709551615,"type":"STDOUT","data":"x"}]`, errMalformed},
		"negative seq":      {`[{"seq":-1,"type":"STDOUT","data":"x"}]`, errMalformed},
		"unknown type":      {`[{"seq":1,"type":"EXIT","data":"x"}]`, errMalformed},
		"both forms":        {`[{"seq":1,"type":"STDOUT","data":"x","b64":"eA=="}]`, errMalformed},
		"bad base64":        {`[{"seq":1,"type":"STDOUT","b64":"!"}]`, errMalformed},
		"lost on output":    {`[{"seq":1,"type":"STDOUT","data":"x","lost":{"from":1,"to":1}}]`, errMalformed},
		"lost backwards":    {`[{"seq":1,"type":"NOTE","lost":{"from":2,"to":1}}]`, errMalformed},
		"note is no text":   {`[{"seq":1,"type":"NOTE","b64":"/w=="}]`, errMalformed},
		"record too large":  {"[" + rec(1, big+"x") + "]", errTooLarge},
		"base64 too large":  {`[{"seq":1,"type":"STDOUT","b64":"` + base64.StdEncoding.EncodeToString([]byte(big+"x")) + `"}]`, errTooLarge},
		"packet too large":  {"[" + whole + "," + rec(5, "x") + "]", errTooLarge},
		"text of surrogate": {`[{"seq":1,"type":1,"data":"\ud800"}]`, errMalformed},
	} {
		if recs, err := parsePacket(json.RawMessage(tc.arg)); !errors.Is(err, tc.want) || recs != nil {
			t.Errorf("%s: parsePacket = %d records, %v, want %v", name, len(recs), err, tc.want)
		}
	}
}

func FuzzClientMessages(f *testing.F) {
	for _, s := range []string{
		``, `null`, `[]`, `{"type":"STDOUT","data":"a"}`, `[{"seq":1,"at":5,"type":"STDOUT","data":"a"},{"seq":2,"type":"NOTE","lost":{"from":1,"to":2,"bytes":3}}]`,
		`{"type":"client","token":"T","id":"c","task":{"name":"t","env":{}},"v":2,"run":"abcdefgh","next":1}`, `{"seq":3,"code":0,"signal":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, arg []byte) {
		h := parseHello(arg)
		var task map[string]any
		if h.task != nil && (json.Unmarshal(h.task, &task) != nil || task["env"] != nil || !h.named) {
			t.Errorf("task %q kept of %q", h.task, arg)
		}
		size := 0
		recs, _ := legacyData(arg, true, 1)
		for _, r := range recs {
			if len(r.Data) > frame.MaxRecord {
				t.Errorf("record of %d bytes", len(r.Data))
			}
		}
		recs, err := parsePacket(arg)
		for _, r := range recs {
			size += len(r.Data)
			if r.Src == 0 || len(r.Data) > frame.MaxRecord {
				t.Errorf("record %d of %d bytes", r.Src, len(r.Data))
			}
		}
		if size > maxPacket+frame.MaxRecord || err != nil && !errors.Is(err, errMalformed) && !errors.Is(err, errTooLarge) {
			t.Errorf("packet of %d bytes, %v", size, err)
		}
		if info, ok := exitOf(arg); ok && len(info.Code) > maxExitValue {
			t.Errorf("exit %q", info.Code)
		}
		_, _ = parseNumberedExit(arg)
	})
}
