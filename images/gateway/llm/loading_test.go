package llm

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestHowAModelIsLoadedIsNoClientsChoice(t *testing.T) {
	for _, c := range []struct{ path, in, want string }{
		{"/api/chat", `{"model":"m","keep_alive":0}`, `{"model":"m","keep_alive":null}`},
		{"/api/generate", `{"keep_alive":"24h","options":{"num_ctx":1000000,"seed":1}}`, `{"keep_alive":null,"options":{"num_ctx":null,"seed":1}}`},
		{"/api/embed", `{"options":{ "num_gpu" : 0, "temperature":0.5 }}`, `{"options":{ "num_gpu" : null, "temperature":0.5 }}`},
		{"/api/embeddings", `{"options":null}`, `{"options":null}`},
		{"/api/chat", `{"options":{"num_batch":1,"main_gpu":1,"use_mmap":false,"num_thread":64}}`,
			`{"options":{"num_batch":null,"main_gpu":null,"use_mmap":null,"num_thread":null}}`},
		{"/v1/chat/completions", `{"keep_alive":0,"options":{"num_ctx":1}}`, `{"keep_alive":0,"options":{"num_ctx":1}}`},
	} {
		d, refusal := parseDocument([]byte(c.in), 64)
		if refusal != nil {
			t.Fatal(refusal)
		}
		change := &changes{doc: d}
		if refusal := change.leaveLoaded(operations[c.path]); refusal != nil {
			t.Errorf("%s: %v", c.in, refusal)
		}
		got := bytes.Join(change.apply(), nil)
		if string(got) != c.want || !json.Valid(got) {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
	d, _ := parseDocument([]byte(`{"options":[]}`), 64)
	if refusal := (&changes{doc: d}).leaveLoaded(operations["/api/chat"]); refusal == nil || refusal.Status != 400 {
		t.Errorf("a list of options: %v", refusal)
	}
	if _, refusal := parseDocument([]byte(`{"Keep_Alive":0}`), 64); refusal == nil {
		t.Error("an engine would read it all the same")
	}
}
