package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// capOf edits a body as the gateway does.
func capOf(t testing.TB, path, kind, body string, most int) (string, *apiError) {
	t.Helper()
	d, refusal := parseDocument([]byte(body), 64)
	if refusal != nil {
		t.Fatal(body, refusal)
	}
	change := &changes{doc: d}
	if refusal := change.cap(operations[path], kind, most); refusal != nil {
		return "", refusal
	}
	return string(bytes.Join(change.apply(), nil)), nil
}

func TestAnAnswerGetsAtMostItsConsumersTokens(t *testing.T) {
	const completions = "/v1/completions"
	for _, c := range []struct{ path, kind, in, want string }{
		{chat, kindOllama, `{"model":"m"}`, `{"max_tokens":100,"model":"m"}`},
		{chat, kindOllama, `{}`, `{"max_tokens":100}`},
		{chat, kindOllama, `{"max_tokens": 99 }`, `{"max_tokens": 99 }`},
		{chat, kindOllama, `{"max_tokens": 101 }`, `{"max_tokens": 100 }`},
		{chat, kindOllama, `{"max_tokens":null}`, `{"max_tokens":100}`},
		{chat, kindOllama, `{"max_tokens":-1}`, `{"max_tokens":100}`},
		{chat, kindOllama, `{"max_tokens":0}`, `{"max_tokens":100}`},
		{chat, kindOllama, `{"max_tokens":1e400}`, `{"max_tokens":100}`},
		{chat, kindOllama, `{"max_tokens":0.5}`, `{"max_tokens":100}`},
		// Ollama does not know the newer spelling, the others do.
		{chat, kindOllama, `{"max_completion_tokens":50}`, `{"max_tokens":50,"max_completion_tokens":50}`},
		{chat, kindOpenAI, `{"max_completion_tokens":50}`, `{"max_completion_tokens":50}`},
		{chat, kindOpenAI, `{"max_completion_tokens":500}`, `{"max_completion_tokens":100}`},
		{chat, kindOpenAI, `{"max_completion_tokens":500,"max_tokens":7}`, `{"max_completion_tokens":100,"max_tokens":7}`},
		{chat, kindOpenAI, `{"n_predict":-1}`, `{"max_tokens":100,"n_predict":100}`},
		{chat, kindOpenAI, `{"n":4,"max_tokens":90}`, `{"n":4,"max_tokens":25}`},
		{chat, kindOpenAI, `{"n_cmpl":4,"max_tokens":90}`, `{"n_cmpl":4,"max_tokens":25}`},
		{completions, kindOpenAI, `{"n":2,"n_cmpl":4}`, `{"max_tokens":25,"n":2,"n_cmpl":4}`},
		{chat, kindOpenAI, `{"n":null}`, `{"max_tokens":100,"n":null}`},
		{completions, kindOpenAI, `{"n":2,"best_of":5}`, `{"max_tokens":20,"n":2,"best_of":5}`},
		{completions, kindOpenAI, `{"prompt":["a","b, \"c",[1,2]]}`, `{"max_tokens":33,"prompt":["a","b, \"c",[1,2]]}`},
		{completions, kindOpenAI, `{"prompt":[1,2,3]}`, `{"max_tokens":100,"prompt":[1,2,3]}`},
		{completions, kindOpenAI, `{"prompt":[ ]}`, `{"max_tokens":100,"prompt":[ ]}`},
		{"/v1/responses", kindOpenAI, `{"max_output_tokens":101}`, `{"max_output_tokens":100}`},
		{"/v1/responses", kindOllama, `{}`, `{"max_output_tokens":100}`},
		{"/v1/embeddings", kindOllama, `{"max_tokens":101}`, `{"max_tokens":101}`},
		{"/api/chat", kindOllama, `{"model":"m"}`, `{"options":{"num_predict":100},"model":"m"}`},
		{"/api/chat", kindOllama, `{"options":null}`, `{"options":{"num_predict":100}}`},
		{"/api/chat", kindOllama, `{"options":{ }}`, `{"options":{"num_predict":100 }}`},
		{"/api/chat", kindOllama, `{"options":{ "seed":1}}`, `{"options":{"num_predict":100, "seed":1}}`},
		{"/api/generate", kindOllama, `{"options":{"num_predict":-2,"seed":1}}`, `{"options":{"num_predict":100,"seed":1}}`},
		{"/api/generate", kindOllama, `{"options":{"num_predict":3}}`, `{"options":{"num_predict":3}}`},
	} {
		if got, refusal := capOf(t, c.path, c.kind, c.in, 100); refusal != nil || got != c.want {
			t.Errorf("%s, %s: %s becomes %s (%v), want %s", c.path, c.kind, c.in, got, refusal, c.want)
		}
		if got, refusal := capOf(t, c.path, c.kind, c.in, 0); refusal != nil || got != c.in {
			t.Errorf("without a cap %s becomes %s (%v)", c.in, got, refusal)
		}
	}
	many := `{"prompt":[` + strings.Repeat(`"x",`, 100) + `"x"]}`
	for _, c := range []struct{ path, in, code string }{
		{chat, `{"max_tokens":"100000"}`, "invalid_max_tokens"},
		{chat, `{"max_tokens":[1]}`, "invalid_max_tokens"},
		{chat, `{"n":9}`, "invalid_n"},
		{chat, `{"n":0}`, "invalid_n"},
		{chat, `{"n":"2"}`, "invalid_n"},
		{chat, `{"n_cmpl":9}`, "invalid_n_cmpl"},
		{chat, `{"n":2.0}`, "invalid_n"},
		{completions, `{"best_of":1e9}`, "invalid_best_of"},
		{completions, many, "too_many_choices"},
		{"/api/chat", `{"options":[]}`, "invalid_options"},
		{"/api/chat", `{"options":{"num_predict":true}}`, "invalid_num_predict"},
		{"/api/chat", `{"options":{"num_predict":1,"num_predict":2}}`, "duplicate_member"},
		{"/api/chat", `{"options":{"Num_Predict":1}}`, "misspelt_member"},
	} {
		if got, refusal := capOf(t, c.path, kindOpenAI, c.in, 100); refusal == nil || refusal.Code != c.code || refusal.Status != 400 {
			t.Errorf("%s passes as %s (%v), want %s", c.in, got, refusal, c.code)
		}
	}
}

// FuzzCaps: what comes out is JSON in which the cap holds for every reader, and in
// which everything else is as it was.
func FuzzCaps(f *testing.F) {
	for _, seed := range []string{`{"max_tokens":1e2,"n":3}`, `{"options":{"num_predict":-1,"x":[]},"prompt":[["a"],"b"]}`, ` { } `,
		`{"max_completion_tokens":5,"n_predict":9,"options":null}`, `{"options": {} ,"max_output_tokens":99999999999999999999}`,
		`{"prompt":"[\"","best_of":2}`, `{"max_tok\u0065ns":7}`} {
		f.Add([]byte(seed), uint8(0), 10)
	}
	paths := slices.Sorted(maps.Keys(operations))
	f.Fuzz(func(t *testing.T, raw []byte, which uint8, most int) {
		path := paths[int(which)%len(paths)]
		op := operations[path]
		if most = most % 1000; most <= 0 || op.role != roleChat {
			return
		}
		d, refusal := parseDocument(raw, 16)
		if refusal != nil {
			return
		}
		for _, kind := range []string{kindOllama, kindOpenAI} {
			change := &changes{doc: d}
			if refusal := change.cap(op, kind, most); refusal != nil {
				if refusal.Status != 400 || refusal.Code == "" {
					t.Fatalf("refusal %+v", refusal)
				}
				continue
			}
			out := bytes.Join(change.apply(), nil)
			var before, after map[string]json.RawMessage
			if json.Unmarshal(raw, &before) != nil || json.Unmarshal(out, &after) != nil {
				t.Fatalf("%s becomes %s", raw, out)
			}
			ruled := op.caps
			if op.nested {
				ruled = []string{"options"}
				sameButCap(t, before["options"], after["options"], most)
			} else {
				holds(t, op, after, most)
			}
			for name, value := range after {
				if !slices.Contains(ruled, name) && string(before[name]) != string(value) {
					t.Fatalf("%s: %q changed from %s to %s", raw, name, before[name], value)
				}
			}
			for name := range before {
				if _, still := after[name]; !still {
					t.Fatalf("%s: %q is gone", raw, name)
				}
			}
		}
	})
}

// holds: each spelling, times the answers asked for, is within the cap.
func holds(t *testing.T, op *operation, after map[string]json.RawMessage, most int) {
	answers := 1
	for _, name := range op.choices {
		var n *int
		if json.Unmarshal(after[name], &n) == nil && n != nil {
			answers = max(answers, *n)
		}
	}
	var prompts []any
	if op.prompts && json.Unmarshal(after["prompt"], &prompts) == nil && len(prompts) > 0 {
		if _, tokens := prompts[0].(float64); !tokens {
			if _, plain := prompts[0].(string); plain {
				answers *= len(prompts)
			} else if _, list := prompts[0].([]any); list {
				answers *= len(prompts)
			}
		}
	}
	bounded := false
	for _, name := range op.caps {
		if raw, there := after[name]; there {
			var n float64
			if err := json.Unmarshal(raw, &n); err != nil || n < 1 || n*float64(answers) > float64(most) {
				t.Fatalf("%s is %s for %d answers, the cap is %d", name, raw, answers, most)
			}
			bounded = true
		}
	}
	if !bounded {
		t.Fatal("nothing bounds the answer")
	}
}

func sameButCap(t *testing.T, before, after json.RawMessage, most int) {
	var was, is map[string]json.RawMessage
	_ = json.Unmarshal(before, &was)
	if err := json.Unmarshal(after, &is); err != nil {
		t.Fatal(err)
	}
	var n float64
	if err := json.Unmarshal(is["num_predict"], &n); err != nil || n < 1 || n > float64(most) {
		t.Fatalf("num_predict is %s, the cap is %d", is["num_predict"], most)
	}
	delete(was, "num_predict")
	delete(is, "num_predict")
	if fmt.Sprint(was) != fmt.Sprint(is) {
		t.Fatalf("options changed from %s to %s", before, after)
	}
}
