package bus

import (
	"errors"
	"strings"
	"testing"

	"tasktracer/pkg/frame"
)

func TestTokens(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"", "="},
		{"cli-1_X", "cli-1_X"},
		{"*", "=2A"},
		{">", "=3E"},
		{"a.b", "a=2Eb"},
		{"a b", "a=20b"},
		{"ü", "=C3=BC"},
		{"=", "=3D"},
		{"=h", "=3Dh"},
		{strings.Repeat("a", 200), strings.Repeat("a", 200)},
		{strings.Repeat("ü", 33) + "ab", strings.Repeat("=C3=BC", 33) + "ab"},
	} {
		got := encodeToken(tc.name)
		if got != tc.want {
			t.Errorf("encodeToken(%q) = %q, want %q", tc.name, got, tc.want)
		}
		back, hashed, ok := decodeToken(got)
		if back != tc.name || hashed || !ok {
			t.Errorf("decodeToken(%q) = %q, %v, %v, want %q", got, back, hashed, ok, tc.name)
		}
	}
}

func TestLongTokensAreHashed(t *testing.T) {
	for _, name := range []string{strings.Repeat("a", 201), strings.Repeat("ü", 34), strings.Repeat("x", 100_000)} {
		got := encodeToken(name)
		if !strings.HasPrefix(got, "=h") || len(got) != 66 {
			t.Errorf("encodeToken(%d bytes) = %q, want a hash", len(name), got)
		}
		if back, hashed, ok := decodeToken(got); back != got || !hashed || !ok {
			t.Errorf("decodeToken(%q) = %q, %v, %v, want the token itself, marked as hashed", got, back, hashed, ok)
		}
	}
}

func TestDecodeTokenRefuses(t *testing.T) {
	for _, token := range []string{"", "a=", "a=2", "=2a", "=61", "=ZZ", "a.b", "*", ">", " ", "=h", "=hAB", "=h" + strings.Repeat("A", 64), "=h" + strings.Repeat("a", 63),
		strings.Repeat("a", 201), "ü", "a=="} {
		if name, _, ok := decodeToken(token); ok {
			t.Errorf("decodeToken(%q) = %q, want refusal: the encoder never makes it", token, name)
		}
	}
}

func TestPathsKeepNamesApart(t *testing.T) {
	seen := map[string]frame.Key{}
	for _, k := range []frame.Key{
		{Namespace: "a", Task: "b:c", Client: "d", Run: "r"}, {Namespace: "a", Task: "b", Client: "c:d", Run: "r"},
		{Namespace: "a", Task: "b.c", Client: "d", Run: "r"}, {Namespace: "a", Task: "b", Client: "c.d", Run: "r"}, {Namespace: "a.b", Task: "c", Client: "d", Run: "r"},
		{Namespace: "", Task: "", Client: "", Run: "r"}, {Namespace: "a", Task: "*", Client: ">", Run: "r"}, {Namespace: "a", Task: ">", Client: "*", Run: "r"},
		{Namespace: "a", Task: strings.Repeat("x", 1000), Client: "d", Run: "r"}, {Namespace: "a", Task: strings.Repeat("x", 999) + "y", Client: "d", Run: "r"},
		{Namespace: "a", Task: encodeToken(strings.Repeat("x", 1000)), Client: "d", Run: "r"},
	} {
		p := path(k)
		if other, dup := seen[p]; dup {
			t.Errorf("path(%v) = path(%v) = %q", k, other, p)
		}
		seen[p] = k
		if n := strings.Count(p, "."); n != 3 || len(p) > 4*maxToken+3 {
			t.Errorf("path(%v) = %q: %d dots, %d bytes", k, p, n, len(p))
		}
	}
}

func FuzzTokenRoundTrip(f *testing.F) {
	for _, s := range []string{"", "a", "=", "=h", "*", ">", "a.b", "\xff\x00", strings.Repeat("ü", 200)} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ta := encodeToken(a)
		if len(ta) > maxToken || ta == "" || strings.ContainsAny(ta, ".*> \t\r\n%") {
			t.Fatalf("encodeToken(%q) = %q cannot stand in a subject", a, ta)
		}
		name, hashed, ok := decodeToken(ta)
		if !ok || !hashed && name != a {
			t.Fatalf("decodeToken(%q) = %q, %v, %v, want %q", ta, name, hashed, ok, a)
		}
		if a != b && ta == encodeToken(b) {
			t.Fatalf("%q and %q share the token %q", a, b, ta)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"ns.task.cli-1.run", "=.=.=.=", "a.b.c", "a..b.c", "=2A.=3E.=2E.x", "=h.a.b.c", "a.b.c.d.e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		k, err := parsePath(p)
		if err != nil {
			if !errors.Is(err, frame.ErrMalformed) {
				t.Fatalf("parsePath(%q) = %v", p, err)
			}
			return
		}
		if again := path(k); again != p && !strings.Contains(p, "=h") {
			t.Errorf("parsePath(%q) = %v, whose path is %q", p, k, again)
		}
	})
}

func FuzzDecodeToken(f *testing.F) {
	for _, s := range []string{"", "=", "=2E", "=2e", "=61", "=h", "a=h", encodeToken(strings.Repeat("x", 300))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		name, hashed, ok := decodeToken(token)
		if !ok || hashed {
			return
		}
		if again := encodeToken(name); again != token {
			t.Fatalf("decodeToken(%q) = %q, whose token is %q: decoding is not canonical", token, name, again)
		}
	})
}
