package ingest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"unicode/utf8"

	"tasktracer/pkg/frame"
)

// maxTask is the largest task object that is kept, in bytes without its environment: it stands in the run's state, which every gateway
// holds. Of a larger one the name and the beginning of the command are kept.
const maxTask = 64 << 10

// hello is what a client says of itself with authenticate.
type hello struct {
	token  string
	id     string
	idErr  error // the id cannot be used
	name   string
	named  bool // the name can be used
	task   []byte
	v2     bool // numbers its records, hears acknowledgements, may resume
	run    string
	nowMS  int64
	retold bool // has records that an earlier connection sent
	late   bool // brings what a process left that has ended
}

// parseHello reads the argument of authenticate. It never fails: what is missing or of a wrong type is empty, and is refused, in the order
// of the wire's description, by who uses it. What the client says of its environment is dropped here.
func parseHello(arg json.RawMessage) hello {
	var m struct {
		Token, ID, Task json.RawMessage
		V, Run          json.RawMessage
		Next, Now, Late json.RawMessage
	}
	if json.Unmarshal(arg, &m) != nil {
		return hello{}
	}
	h := hello{token: asString(m.Token), run: asString(m.Run), nowMS: int64(asUint(m.Now)), retold: asUint(m.Next) > 1}
	h.v2 = asUint(m.V) >= 2
	h.late = h.v2 && string(m.Late) == "true"
	h.id, h.idErr = asName(m.ID)
	if h.idErr == nil && len(h.id) > frame.MaxID {
		h.idErr = fmt.Errorf("client id of %d bytes, at most %d are allowed", len(h.id), frame.MaxID)
	}
	h.name, h.named, h.task = parseTask(m.Task)
	return h
}

// taskName is the older system's rule: only the first character counts.
var taskName = regexp.MustCompile(`^[0-9A-Za-z]`)

func parseTask(raw json.RawMessage) (name string, usable bool, task []byte) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return "", false, nil
	}
	name, err := asName(fields["name"])
	if err != nil || !taskName.MatchString(name) || len(name) > frame.MaxName {
		return name, false, nil
	}
	delete(fields, "env")
	task, err = json.Marshal(fields)
	if err == nil && len(task) > maxTask {
		task, err = json.Marshal(map[string]string{"name": name, "cmd": clip(asString(fields["cmd"]), maxTask/8)})
	}
	return name, err == nil, task
}

// clip cuts s to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// asString is a JSON string's text, "" for anything else.
func asString(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// asUint is a JSON number's value, 0 for anything else.
func asUint(raw json.RawMessage) uint64 {
	var n uint64
	if json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// asName is the text of a name or an id: a string as it is, a number or a truth value as it is written (the older system joined them into
// text), nothing or null as "".
func asName(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	switch raw[0] {
	case '"':
		return asString(raw), nil
	case '{', '[':
		return "", fmt.Errorf("a name or an id must be text")
	}
	return string(raw), nil
}

var runID = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)
