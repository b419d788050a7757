package llm

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestPathsMatchExactlyOrBelow(t *testing.T) {
	var m PathMatcher
	if err := json.Unmarshal([]byte(`["/","/v1/models","/c/*","/u/{id}/x"]`), &m); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/": true, "/v1/models": true, "/c/x": true, "/c/x/y": true, "/u/1/x": true,
		"/u//x": false, "/u/1": false, "/u/1/2/x": false, "/u/1/x/": false, "/u/1/X": false, "/u/{id}": false,
		"/c": false, "/c/": false, "/C/x": false, "/V1/models": false, "/v1/models/": false, "/v1/modelsx": false, "": false,
	} {
		if got := m.Match(&http.Request{URL: &url.URL{Path: path}}); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	for _, bad := range []string{`["v1"]`, `["/a*"]`, `["/*/b"]`, `["/a/*/*"]`, `["/a/{b"]`, `["/a/{b}c"]`, `["/{a}/*"]`, `[""]`, `{}`} {
		if err := json.Unmarshal([]byte(bad), new(PathMatcher)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

var plainTargets = []string{
	"/", "/v1/chat/completions", "/c/8f3a-1", "/static/", "/v1/models/hf.co/a/B:Q4_K_M", "/a%20b", "/%C3%A9t%C3%A9", "/x?y=%2f..%2f;#",
	"/@a,b+c!$&'()*=:~_", "/..a", "/a..", "/...",
}

var oddTargets = []string{
	"", "*", "x", "x/y", "//", "//a", "/a//b", "/a//", "/.", "/..", "/a/.", "/a/..", "/./a", "/../a", "/a/../b", "/a;b", "/a;", "/a\\b", "\\",
	"/%2e", "/%2E%2e", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%00", "/a%0d%0a", "/%61", "/%70ull", "/a%252fb", "/a%3bb", "/a%7e", "/a%7f", "/a%", "/a%4",
	"/a%zz", "/a%ff", "/a%c0%af", "/a b", "/a\tb", "/a#b", "/a|b", "/a\"b", "/a<b>", "/a{b}", "/a^b", "/a`b", "/é", "/a\x00", "/a\x80",
	"/a%e2%80%8bb", "/a%c2%85b", "/a%e2%80%aeb", "/a%ef%bf%bdb", "/a%ef%bc%8fb", "/a%e2%80%a6", "/%20", "/a/%20b", "/a%20", "/a%20/b",
	"http://", "https://host", "https:///v1", "ftp://host/v1", "host:443",
}

func TestTargets(t *testing.T) {
	for _, target := range plainTargets {
		if strings.HasSuffix(target, "#") {
			continue
		}
		if authority, plain := plainTarget(target); !plain || authority != "" {
			t.Errorf("%q is refused (%q)", target, authority)
		}
	}
	for _, target := range append(oddTargets, "/x?y#z") {
		if _, plain := plainTarget(target); plain {
			t.Errorf("%q passes", target)
		}
	}
	for target, want := range map[string]string{"https://evil/v1": "evil", "HTTP://a:1/": "a:1", "https://user@host/v1": "user@host"} {
		if authority, plain := plainTarget(target); !plain || authority != want {
			t.Errorf("%q: %q %v", target, authority, plain)
		}
	}
}

// FuzzPath holds what a plain path promises: decoding it, decoding it twice and
// cleaning it change nothing that decides where it leads.
func FuzzPath(f *testing.F) {
	for _, seed := range append(plainTargets, oddTargets...) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		raw, _, _ := strings.Cut(target, "?")
		if _, absolute := cutScheme(target); absolute || !plainPath(raw) {
			return
		}
		once, err := url.PathUnescape(raw)
		if err != nil {
			t.Fatalf("%q cannot be decoded: %v", raw, err)
		}
		if twice, err := url.PathUnescape(once); err != nil || twice != once {
			t.Fatalf("%q decodes to %q and then to %q (%v)", raw, once, twice, err)
		}
		if clean := path.Clean(once); clean != once && clean+"/" != once {
			t.Fatalf("%q is cleaned to %q", once, clean)
		}
		if strings.Count(once, "/") != strings.Count(raw, "/") || strings.ContainsAny(once, "\\;%\x00#?") {
			t.Fatalf("%q decodes to %q", raw, once)
		}
		if parsed, err := url.ParseRequestURI(raw); err != nil || parsed.Path != once {
			t.Fatalf("%q is parsed otherwise: %v %v", raw, parsed, err)
		}
	})
}
