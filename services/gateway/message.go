package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"tasktracer/pkg/frame"
)

// hello is an authenticate message of a viewer.
type hello struct {
	token string
	v2    bool
	// client says that the peer calls itself a client: it is at the wrong door.
	client bool
	task   string
	// from is what the viewer sent, nulls taken out, to be answered as it is; ids are the texts in it.
	from []json.RawMessage
	ids  []string
	want want
}

// want is what a viewer asks of the clients it attaches to.
type want struct {
	history history
	// given says that the message had a history or an after of its own.
	given bool
	after map[string][]frame.Cursor
	batch bool
	// bad are sentences on what could not be understood, by client id, "" for what concerns all.
	bad []complaint
}

type complaint struct{ code, message, from string }

// history is what of the past is wanted.
type history struct {
	mode historyMode
	tail int    // lines, with tail
	run  string // with run
}

type historyMode uint8

const (
	histLive historyMode = iota
	histAll
	histNone
	histTail
	histRun
)

// errBrowserData is answered in these words: older viewers compare them.
var errBrowserData = errors.New("browser data error")

// parseHello reads an authenticate message. What is of a wrong type counts as missing. With errBrowserData the token and v2 are good all the same:
// who may not see anything is not told what else was wrong.
func parseHello(data json.RawMessage) (hello, error) {
	m := object(data)
	h := hello{token: text(m["token"]), v2: number(m["v"]) >= 2, client: text(m["type"]) == "client"}
	watch := object(m["watch"])
	h.task = text(watch["task"])
	h.from, h.ids = fromList(watch["from"])
	if h.task == "" || isEmptyList(watch["from"]) {
		return h, errBrowserData
	}
	h.want = parseWant(watch)
	h.want.batch = h.want.batch && h.v2
	return h, nil
}

// parseFrom reads an attach or a detach message; ok is false for what is to be ignored.
func parseFrom(data json.RawMessage) (ids []string, w want, ok bool) {
	m := object(data)
	from, ids := fromList(m["from"])
	if from == nil {
		return nil, want{}, false
	}
	return ids, parseWant(m), true
}

func parseWant(m map[string]json.RawMessage) want {
	var w want
	if raw, ok := m["history"]; ok && !isNull(raw) {
		h, err := parseHistory(raw)
		if err != nil {
			w.bad = append(w.bad, complaint{code: "bad_request", message: err.Error()})
		}
		w.history, w.given = h, err == nil
	}
	if raw, ok := m["after"]; ok && !isNull(raw) {
		w.parseAfter(raw)
	}
	w.batch = string(bytes.TrimSpace(m["batch"])) == "true"
	return w
}

func (w *want) parseAfter(raw json.RawMessage) {
	byClient := object(raw)
	if byClient == nil {
		w.bad = append(w.bad, complaint{code: "bad_request", message: "after must be an object of lists of cursors"})
		return
	}
	w.given = true
	for id, raw := range byClient {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			w.bad = append(w.bad, complaint{code: "bad_request", message: "after must be an object of lists of cursors", from: id})
			continue
		}
		for _, raw := range list {
			c, err := frame.ParseCursor(text(raw))
			if err != nil {
				w.bad = append(w.bad, badCursor(id))
				continue
			}
			if w.after == nil {
				w.after = map[string][]frame.Cursor{}
			}
			w.after[id] = append(w.after[id], c)
		}
	}
}

// badCursor says the same whether a cursor is rubbish, of an unknown run or of somebody else's.
func badCursor(from string) complaint {
	return complaint{code: "bad_cursor", message: "the log does not have the place of this cursor (any more): open it again to see what there is", from: from}
}

func parseHistory(raw json.RawMessage) (history, error) {
	switch text(raw) {
	case "live":
		return history{mode: histLive}, nil
	case "all":
		return history{mode: histAll}, nil
	case "none":
		return history{mode: histNone}, nil
	}
	m := object(raw)
	if t, ok := m["tail"]; ok {
		n := number(t)
		if n < 0 || n > 1e9 || n != math.Trunc(n) {
			return history{}, fmt.Errorf("history.tail must be a number of lines")
		}
		if n == 0 {
			return history{mode: histNone}, nil
		}
		return history{mode: histTail, tail: int(n)}, nil
	}
	if r := text(m["run"]); r != "" && len(r) <= frame.MaxRun {
		return history{mode: histRun, run: r}, nil
	}
	return history{}, errors.New(`history must be "live", "all", "none", {"tail": lines} or {"run": id}`)
}

// fromList reads a list of ids. all is what it holds but nulls, nil where it is no list; ids are its texts, each once.
func fromList(raw json.RawMessage) (all []json.RawMessage, ids []string) {
	if t := bytes.TrimSpace(raw); len(t) == 0 || t[0] != '[' {
		return nil, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, nil
	}
	all = make([]json.RawMessage, 0, len(list))
	seen := map[string]bool{}
	for _, raw := range list {
		if isNull(raw) {
			continue
		}
		all = append(all, raw)
		var id string
		if json.Unmarshal(raw, &id) == nil && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return all, ids
}

// isEmptyList tells whether raw is no list, or one without elements; [null] is neither.
func isEmptyList(raw json.RawMessage) bool {
	var list []json.RawMessage
	t := bytes.TrimSpace(raw)
	return len(t) == 0 || t[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) == 0
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// object gives the fields of a JSON object, their names compared exactly; nil where raw is none.
func object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// number gives -1 where raw is no number.
func number(raw json.RawMessage) float64 {
	var n *float64
	if json.Unmarshal(raw, &n) != nil || n == nil {
		return -1
	}
	return *n
}
