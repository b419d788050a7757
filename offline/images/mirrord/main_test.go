package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func store(t *testing.T) mirror {
	t.Helper()
	m := mirror{root: t.TempDir(), content: "c", models: "mirror-models", blobs: "mirror-blobs:5006"}
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(m.blob(digest), `{"mediaType":"some/type"}`)
	write(m.path("repositories", "private-llm/base", "_manifests", "tags", "12", "current", "link"), digest)
	write(m.path("repositories", "private-llm/base", "_manifests", "revisions", "sha256", digest[7:], "link"), digest)
	write(filepath.Join(m.root, "outside"), "never served")
	return m
}

func ask(m mirror, method, target, host string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w.Result()
}

func TestAnswers(t *testing.T) {
	m := store(t)
	for _, c := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/v2/", 200},
		{"GET", "/content", 200},
		{"GET", "/v2/private-llm/base/manifests/12", 200},
		{"HEAD", "/v2/private-llm/base/manifests/" + digest, 200},
		{"GET", "/v2/private-llm/base/blobs/" + digest, 200},
		{"GET", "/blobs/" + digest, 200},
		{"GET", "/v2/private-llm/base/manifests/13", 404},
		{"GET", "/v2/private-llm/base/blobs/" + strings.Replace(digest, "a", "b", 1), 404},
		{"GET", "/v2/../../outside/manifests/12", 404},
		{"GET", "/v2/private-llm/base/manifests/..", 404},
		{"GET", "/v2/private-llm/base/manifests/sha256:../../outside", 404},
		{"GET", "/", 404},
		{"PUT", "/v2/private-llm/base/manifests/12", 405},
		{"POST", "/v2/private-llm/base/blobs/uploads/", 405},
		{"DELETE", "/v2/private-llm/base/manifests/" + digest, 405},
	} {
		if got := ask(m, c.method, c.target, "127.0.0.1:5005").StatusCode; got != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, got, c.status)
		}
	}
}

func TestManifestNamesItsTypeAndDigest(t *testing.T) {
	got := ask(store(t), "GET", "/v2/private-llm/base/manifests/12", "127.0.0.1:5005").Header
	if got.Get("Content-Type") != "some/type" || got.Get("Docker-Content-Digest") != digest {
		t.Error(got)
	}
}

// Ollama ends a pull with "no Location header" unless a blob is redirected to another host name.
func TestEnginesAreSentToAnotherHostName(t *testing.T) {
	m := store(t)
	got := ask(m, "GET", "/v2/private-llm/base/blobs/"+digest, "mirror-models:5006")
	if got.StatusCode != 307 || got.Header.Get("Location") != "http://mirror-blobs:5006/blobs/"+digest {
		t.Error(got.StatusCode, got.Header)
	}
	if got := ask(m, "HEAD", "/v2/private-llm/base/blobs/"+digest, "mirror-models:5006").StatusCode; got != 200 {
		t.Error("the size is asked for by HEAD and must be answered here:", got)
	}
}
