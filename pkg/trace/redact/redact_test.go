package redact

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func rules(t *testing.T, secrets, patterns []string) *Rules {
	t.Helper()
	r, err := New(secrets, patterns)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWholeAndSplit(t *testing.T) {
	secrets := []string{"hunter2hunter2", "s3cr3t-value", "s3cr3t", "aaaaaa"}
	patterns := []string{`password=\S+`, `\b[0-9]{4}-[0-9]{4}\b`, `(?i)bearer [a-z0-9]+`}
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":            {"just lines\nof text\n", "just lines\nof text\n"},
		"one":                {"key hunter2hunter2!\n", "key ***!\n"},
		"longer of two":      {"s3cr3t-value", "***"},
		"shorter of two":     {"s3cr3t-valu", "***-valu"},
		"prefix only":        {"hunter2hunter", "hunter2hunter"},
		"twice":              {"s3cr3t s3cr3t", "*** ***"},
		"repeated letters":   {"baaaaaaab", "b***b"},
		"pattern":            {"x password=abc y\n", "x *** y\n"},
		"pattern at the end": {"password=abc", "***"},
		"pattern cut short":  {"password=", "password="},
		"digits":             {"id 1234-5678, 12345-6789", "id ***, 12345-6789"},
		"case":               {"Authorization: Bearer abc123\n", "Authorization: ***\n"},
		"both":               {"password=s3cr3t-value\n", "***\n"},
		"unicode around":     {"é s3cr3t é 🎉", "é *** é 🎉"},
		"empty":              {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := rules(t, secrets, patterns)
			s := r.Stream()
			got := string(s.Write([]byte(tc.in))) + string(s.End())
			if got != tc.want {
				t.Errorf("in one write: %q, want %q", got, tc.want)
			}
			for split := 1; split < len(tc.in); split++ {
				s := r.Stream()
				got := string(s.Write([]byte(tc.in[:split])))
				got += string(s.Write([]byte(tc.in[split:]))) + string(s.End())
				if got != tc.want {
					t.Errorf("split at %d: %q, want %q", split, got, tc.want)
				}
			}
			s, got = r.Stream(), ""
			for i := range len(tc.in) {
				got += string(s.Write([]byte(tc.in[i : i+1])))
			}
			if got += string(s.End()); got != tc.want {
				t.Errorf("byte by byte: %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReleaseMasksTheRest(t *testing.T) {
	r := rules(t, []string{"hunter2hunter2"}, []string{`password=\S+`})
	for name, tc := range map[string]struct {
		writes []string // "" is a Release
		want   []string
	}{
		"short beginning is let go":   {[]string{"hu", "", "nter2hunter2 x", ""}, []string{"", "hu", "*** x", ""}},
		"long beginning is kept":      {[]string{"a hunter2", "", "hunter2\n", ""}, []string{"a ", "", "***\n", ""}},
		"pattern masks what it knows": {[]string{"password=ab", "", "cd e", ""}, []string{"", "***", "*** e", ""}},
		"no secret after all":         {[]string{"hu", "", "man\n", ""}, []string{"", "hu", "man\n", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.Stream()
			var got []string
			for _, w := range tc.writes {
				if w == "" {
					got = append(got, string(s.Release()))
					continue
				}
				got = append(got, string(s.Write([]byte(w))))
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestNoSecretSurvivesAnySplitting(t *testing.T) {
	secrets := []string{"abcabcabd", "abcabd", "ffffffff", "cabcab"}
	r := rules(t, secrets, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		var in bytes.Buffer
		for in.Len() < 200 {
			switch rng.IntN(3) {
			case 0:
				in.WriteString(secrets[rng.IntN(len(secrets))])
			default:
				in.WriteByte("abcdf"[rng.IntN(5)])
			}
		}
		s := r.Stream()
		whole := string(s.Write(in.Bytes())) + string(s.End())
		for _, secret := range secrets {
			if strings.Contains(whole, secret) {
				t.Fatalf("round %d: %q is left in %q", round, secret, whole)
			}
		}
		s = r.Stream()
		got := ""
		for rest := in.Bytes(); len(rest) > 0; {
			n := min(1+rng.IntN(12), len(rest))
			got += string(s.Write(rest[:n]))
			rest = rest[n:]
		}
		got += string(s.End())
		// Masks of secrets that touch may be joined or not, depending on where the writes end.
		join := func(s string) string {
			return strings.ReplaceAll(strings.ReplaceAll(s, "******", "***"), "******", "***")
		}
		if join(got) != join(whole) {
			t.Fatalf("round %d: split %q, whole %q", round, got, whole)
		}
	}
}

func TestHeldIsBounded(t *testing.T) {
	r := rules(t, nil, []string{`x.*y`})
	s := r.Stream()
	line := bytes.Repeat([]byte{'x'}, 10_000)
	given := 0
	for range 100 {
		given += len(s.Write(line))
		if len(s.buf)-s.sent > maxHeld {
			t.Fatalf("%d bytes held, at most %d", len(s.buf)-s.sent, maxHeld)
		}
	}
	if given += len(s.End()); given != 1_000_000 {
		t.Errorf("%d bytes given, want all of 1000000", given)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, p := range []string{"(", "a*", ""} {
		if _, err := New(nil, []string{p}); err == nil {
			t.Errorf("New(%q) = nil error", p)
		}
	}
	if r, err := New([]string{"short"}, nil); r != nil || err != nil {
		t.Errorf("New(short text) = %v, %v, want nothing to do", r, err)
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"HOME=/root", "GH_TOKEN=abcdefgh", "DB_PASSWORD=pass word", "aws_secret_access_key=kkkkkkkk", "EMPTY_TOKEN=", "PWD=/home/x", "TOKENIZER=fast", "odd"})
	if d := cmp.Diff([]string{"abcdefgh", "pass word", "kkkkkkkk"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestManyLines(t *testing.T) {
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"
	s := rules(t, []string{key}, nil).Stream()
	got := string(s.Write([]byte(strings.ReplaceAll(key, "\n", "\r\n")))) + string(s.End())
	if strings.Contains(got, "MIIEvQ") || strings.Contains(got, "hkiG9w") {
		t.Errorf("a key printed with other line ends is left: %q", got)
	}
}

func BenchmarkTexts(b *testing.B) {
	var secrets []string
	for i := range 10 {
		secrets = append(secrets, fmt.Sprintf("secret-value-%d-%d", i, i*7919))
	}
	r, err := New(secrets, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := r.Stream()
	p := bytes.Repeat([]byte("ordinary output of a command, line by line\n"), 6000)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		s.Write(p)
	}
}
