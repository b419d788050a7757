package llm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names reads the names of a native list in order, and insists that both members agree.
func nativeNames(t *testing.T, text string) string {
	t.Helper()
	var list struct {
		Models []struct{ Name, Model string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || list.Models == nil {
		t.Fatalf("%v: %s", err, text)
	}
	var names []string
	for _, m := range list.Models {
		if m.Name != m.Model {
			t.Errorf("name is %q, model %q", m.Name, m.Model)
		}
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func TestNativeListsHoldWhatThisConsumerMayUse(t *testing.T) {
	one, two := newEngine(t), newEngine(t)
	one.version, two.version = "0.35.0", "0.9.1"
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("of-the-engine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	engines := object{
		"a": object{"instances": []string{one.dial(), "127.0.0.1:1"}, "key_file": key},
		"b": object{"instances": []string{two.dial()}},
		"c": object{"instances": []string{"127.0.0.1:1"}, "kind": "openai"},
	}
	models := []object{
		{"id": "chat-one", "engine": "a", "upstream_name": "up-chat", "aliases": []string{"default", "gpt-4"}},
		{"id": "embed-two", "engine": "b", "upstream_name": "up-embed", "role": "embedding"},
		{"id": "not-pulled", "engine": "a"},
		{"id": "elsewhere", "engine": "c"},
	}
	g := startCatalog(t, engines, models, spec("lister", nil), spec("some", map[string]any{"models": []string{"gpt-4"}}), spec("none", map[string]any{"models": []string{"elsewhere"}}))
	for _, c := range []struct{ who, path, want string }{
		{"lister", "/ollama/api/tags", "chat-one default gpt-4 embed-two"},
		{"some", "/ollama/api/tags", "gpt-4"},
		{"none", "/ollama/api/tags", ""},
		{"lister", "/ollama/api/ps", "chat-one"},
		{"some", "/ollama/api/ps", "gpt-4"},
		{"none", "/ollama/api/ps", ""},
	} {
		status, text, _ := g.ask("GET", c.path, keyOf(c.who), "")
		if got := nativeNames(t, text); status != 200 || got != c.want {
			t.Errorf("%s %s: %d %q, want %q", c.who, c.path, status, got, c.want)
		}
		if strings.Contains(text, "up-") || strings.Contains(text, "secret") {
			t.Errorf("%s %s tells too much: %s", c.who, c.path, text)
		}
	}
	if status, text, _ := g.ask("GET", "/ollama/api/tags", keyOf("some"), ""); status != 200 || !strings.Contains(text, `"size":7`) {
		t.Errorf("the rest of the entry stays: %d %s", status, text)
	}
	if status, text, _ := g.ask("GET", "/ollama/api/version", keyOf("none"), ""); status != 200 || text != `{"version":"0.9.1"}` {
		t.Errorf("the oldest version: %d %s", status, text)
	}
	if status, text, _ := g.ask("HEAD", "/ollama/api/tags", keyOf("lister"), ""); status != 200 || text != "" {
		t.Errorf("HEAD: %d %q", status, text)
	}
	if status, _, _ := g.ask("GET", "/ollama/api/blobs", keyOf("lister"), ""); status != 404 {
		t.Errorf("what is not there: %d", status)
	}
	if status, text, _ := g.ask("POST", "/ollama/api/chat", keyOf("lister"), `{"model":"elsewhere"}`); status != 400 || !strings.Contains(text, "wrong_model_engine") {
		t.Errorf("a model whose engine has no such API: %d %s", status, text)
	}
	if status, text, _ := g.ask("GET", "/ollama/api/tags", "wrong", ""); status != 401 {
		t.Errorf("without a key: %d %s", status, text)
	}
	for _, e := range []*engine{one, two} {
		e.Listener.Close()
		e.CloseClientConnections()
	}
	status, text, _ := g.ask("GET", "/ollama/api/tags", keyOf("lister"), "")
	if code, _ := errorOf(t, text); status != 502 || code != "engine_unreachable" {
		t.Errorf("without engines: %d %s", status, text)
	}
}

func TestShowNeedsItsScopeAndAModelThatMayBeUsed(t *testing.T) {
	e := newEngine(t)
	g := startGateway(t, e.dial(), true, spec("nosy", map[string]any{"scopes": []string{"show"}, "models": []string{"default", "embed-one"}}), spec("plain", nil))
	if status, _, _ := g.ask("POST", "/ollama/api/show", keyOf("plain"), `{"model":"default"}`); status != 403 {
		t.Errorf("without the scope: %d", status)
	}
	if status, _, _ := g.ask("POST", "/ollama/api/show", keyOf("nosy"), `{"model":"lost"}`); status != 403 {
		t.Errorf("of a model that it may not use: %d", status)
	}
	for in, want := range map[string]string{
		`{"model":"default","verbose":true}`: `{"model":"up-chat","verbose":true}`,
		`{"name":"embed-one"}`:               `{"model":"up-embed","name":"up-embed"}`,
		`{"model":"default","name":"lost"}`:  `{"model":"up-chat","name":"up-chat"}`,
	} {
		if status, text, _ := g.ask("POST", "/ollama/api/show", keyOf("nosy"), in); status != 200 || e.last(t).body != want {
			t.Errorf("%s: %d %s, the engine saw %s", in, status, text, e.last(t).body)
		}
	}
}
