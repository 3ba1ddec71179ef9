package socketio

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// collected is what a payload decoder handed on.
type collected struct {
	Text bool
	Data string
}

func collect(out *[]collected) payloadFunc {
	return func(text bool, data []byte) error {
		*out = append(*out, collected{text, string(data)})
		return nil
	}
}

// FuzzPayload4: what is read is what was written, and nothing panics.
func FuzzPayload4(f *testing.F) {
	for _, s := range []string{"", "4", "40", "2\x1e3", "42[\"a\"]\x1ebAQID", "b", "b!!!!", "\x1e", "4ü\x1e4😀", "bAA==\x1e\x1e"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := bytes.Clone(body)
		var got []collected
		if decodePayload4(in, 100, collect(&got)) != nil {
			return
		}
		var parts []string
		for _, p := range got {
			if p.Text {
				parts = append(parts, p.Data)
			} else {
				parts = append(parts, "b"+base64.StdEncoding.EncodeToString([]byte(p.Data)))
			}
		}
		var again []collected
		if err := decodePayload4([]byte(strings.Join(parts, "\x1e")), 100, collect(&again)); err != nil {
			t.Fatalf("%q: %v", parts, err)
		}
		if d := cmp.Diff(got, again); d != "" {
			t.Error(d)
		}
	})
}

// FuzzPayload3 reads bodies of Engine.IO 3, and checks each length against UTF-16 as the standard library counts it.
func FuzzPayload3(f *testing.F) {
	for _, s := range []string{"", "1:2", "2:40", "1:21:3", "3:4ü😀", "4:4ü😀", "6:b4AQID", "6:b5AQID", "99999999999999999:4", "0:", ":", "3:4\xff\xfe", "5:4Ã¼Ã¼", "2:b4", "1:😀"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, raw bool) {
		var got []collected
		_, err := decodePayload3(bytes.Clone(body), raw, 100, collect(&got))
		if err != nil || !raw || !utf8.Valid(body) {
			return
		}
		var again strings.Builder
		for _, p := range got {
			text := p.Data
			if !p.Text {
				text = "b4" + base64.StdEncoding.EncodeToString([]byte(p.Data))
			}
			fmt.Fprintf(&again, "%d:%s", len(utf16.Encode([]rune(text))), text)
		}
		var second []collected
		if again.Len() == 0 {
			return
		}
		if _, err := decodePayload3([]byte(again.String()), true, 100, collect(&second)); err != nil {
			t.Fatalf("%q: %v", again.String(), err)
		}
		if d := cmp.Diff(got, second); d != "" {
			t.Error(d)
		}
	})
}

// FuzzBinaryPayload3 reads the binary bodies of old browsers.
func FuzzBinaryPayload3(f *testing.F) {
	for _, s := range []string{"", "\x00\x02\xff40", "\x01\x03\xff\x04ab", "\x00\x01\x02\xff4", "\x02\x01\xff4", "\x00\xff", "\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff", "\x01\x01\xff\x05"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got []collected
		if decodeBinaryPayload3(bytes.Clone(body), 100, collect(&got)) != nil {
			return
		}
		total := 0
		for _, p := range got {
			total += len(p.Data)
		}
		if total > len(body) {
			t.Errorf("%d bytes read from %d", total, len(body))
		}
	})
}

// FuzzDoubleEncoding: what generation 1 clients do to a text is undone, and a text that they cannot have made is left alone.
func FuzzDoubleEncoding(f *testing.F) {
	for _, s := range []string{"", "a", "ü", "日本", "😀", "Ã¼", "é\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		var double []byte
		for _, b := range []byte(s) {
			double = utf8.AppendRune(double, rune(b))
		}
		if got, raw := undoDouble(double); string(got) != s || raw {
			t.Errorf("undoDouble(%q) = %q, %v, want %q, false", double, got, raw, s)
		}
		got, raw := undoDouble([]byte(s))
		if raw && string(got) != s {
			t.Errorf("undoDouble(%q) = %q, taken for raw and changed", s, got)
		}
	})
}

// FuzzPacket: heads and arrays are split as encoding/json reads them.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{"", "0", "0/a,", "0/a?x=1,{}", "1", `2["a"]`, `212["a",1,{"b":[2]},"]"]`, `2/n,3["a"]`, `51-["a",{"_placeholder":true,"num":0}]`, `5999999999-["a"]`, `61-3[{"_placeholder":true,"num":9}]`, "4", "7", `2[" a\\","\u00e9"]`, "2[]", "2{}", `2[1,2]`, "3[", `30[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePacket(data, 10)
		if err != nil {
			return
		}
		if p.attachments > 10 {
			t.Errorf("%d attachments allowed", p.attachments)
		}
		got, err := splitArray(p.body)
		var want []json.RawMessage
		jsonErr := json.Unmarshal(p.body, &want)
		isArray := jsonErr == nil && want != nil
		if (err == nil) != isArray {
			t.Fatalf("splitArray(%q): %v, encoding/json: %v", p.body, err, jsonErr)
		}
		if err == nil && !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, bytes.TrimSpace(b)) }) {
			t.Errorf("splitArray(%q) = %q, want %q", p.body, got, want)
		}
		name, args, err := splitEvent(p.body)
		if err == nil && (len(args) != len(want)-1 || !sameString(want[0], name)) {
			t.Errorf("splitEvent(%q) = %q, %q", p.body, name, args)
		}
	})
}

func sameString(raw json.RawMessage, s string) bool {
	var want string
	return json.Unmarshal(raw, &want) == nil && want == s
}

// FuzzConversation feeds a whole connection with frames, as a hostile peer may: attachments that were not announced, packets before
// CONNECT, rubbish. Nothing may panic, and what arrives with a handler is whole.
func FuzzConversation(f *testing.F) {
	seeds := [][]string{
		{"t40", `t42["a"]`, "t41"},
		{"t40", `t451-["a",{"_placeholder":true,"num":0}]`, "b\x01\x02"},
		{"t40", `t452-["a"]`, "b1", "t2", "b2"},
		{"t40", `t451-["a",{"_placeholder":true,"num":0}]`, "tb4AQID"}, {"t40", `t451-["a",{"_placeholder":true,"num":0}]`, "tbAQID"}, {"tb"}, {"tb4****"},
		{"t40", "b1"}, {"t2"}, {"t3"}, {"t1"}, {"t5"}, {"t"}, {"t40/x,"}, {`t42["a"]`}, {"t40", `t430["x"]`}, {"t40", "t43"}, {"t40", `t461-0["a"]`, "b"}, {"t40", "t44"},
	}
	for _, s := range seeds {
		f.Add([]byte(strings.Join(s, "\n")), true)
		f.Add([]byte(strings.Join(s, "\n")), false)
	}
	f.Fuzz(func(t *testing.T, script []byte, old bool) {
		bad := ""
		s, err := NewServer(Config{MaxMessage: 1 << 16, MaxAttachments: 4, Metrics: Metrics{Panicked: func() { bad = "panic" }}}, func(c *Conn) {
			c.OnEvent(func(e *Event) {
				if len(e.Bins) > 4 {
					bad = fmt.Sprint(len(e.Bins), " attachments")
				}
				for _, a := range e.Args {
					if !json.Valid(a) {
						bad = fmt.Sprintf("argument %q", a)
					}
				}
				_ = e.Ack("x")
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		c := testConn(s, old)
		for _, frame := range bytes.Split(script, []byte("\n")) {
			if len(frame) == 0 {
				continue
			}
			c.recv.Lock()
			var err error
			if frame[0] == 't' {
				err = decodePacket(bytes.Clone(frame[1:]), old, c.receive)
			} else {
				err = c.receive(false, frame[1:])
			}
			c.recv.Unlock()
			if err != nil {
				c.fail(err)
			}
		}
		c.end(ReasonTransportClose)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if bad != "" {
			t.Error(bad)
		}
	})
}
