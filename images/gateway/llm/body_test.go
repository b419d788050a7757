package llm

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestFoldNameIsWhatCaseInsensitiveReadersDo(t *testing.T) {
	for name, want := range map[string]string{"Model": "model", "ſtream": "stream", "K": "k", "é": "é", "É": "é", "ẞ": "ß"} {
		if got := foldName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestEditsLeaveEverythingElseAsItWas(t *testing.T) {
	raw := "\t{ \"a\\\"\" : [1, {\"b\":\"}\\\\\"}], \"model\":\"x\", \"stream\" : true }\n"
	d, refusal := parseDocument([]byte(raw), 8)
	if refusal != nil {
		t.Fatal(refusal)
	}
	options, asked, refusal := d.usage()
	if refusal != nil || asked {
		t.Fatal(asked, refusal)
	}
	change := &changes{doc: d}
	change.set("stream_options", options)
	change.setModel("model", `y"z`)
	want := strings.Replace(strings.Replace(raw, `"x"`, `"y\"z"`, 1), "{ ", `{"stream_options":{"include_usage":true}, `, 1)
	if got := string(bytes.Join(change.apply(), nil)); got != want {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{`1`, `[]`, `"x"`, `{"include_usage":1}`, `{"Include_Usage":false}`} {
		d, _ := parseDocument([]byte(`{"model":"m","stream_options":`+bad+`}`), 8)
		if _, _, refusal := d.usage(); refusal == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

// FuzzDocument: whatever is accepted means the same to us and to any JSON reader,
// before and after the edits.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{`{"model":"m"}`, `{"model":"m","stream":true,"stream_options":{"x":1}}`, ` { "mod\u0065l" : "\"" , "a":[[{}]] } `,
		`{"model":"m","MODEL":"n"}`, `{"":null,"model":"é\\"}`, `{"model":"m","stream_options":null,"x":-1.5e9}`, `[]`, `{`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, refusal := parseDocument(raw, 16)
		var plain map[string]json.RawMessage
		err := json.Unmarshal(raw, &plain)
		if refusal != nil {
			if refusal.Status != 400 || refusal.Code == "" {
				t.Fatalf("refusal %+v", refusal)
			}
			return
		}
		if err != nil || len(plain) != len(d.members) {
			t.Fatalf("accepted, but a plain reader says %v and sees %d members, we %d", err, len(plain), len(d.members))
		}
		for name, value := range plain {
			at, there := d.members[name]
			if !there || string(d.raw[at.start:at.end]) != string(value) {
				t.Fatalf("member %q: we see %q, a plain reader %q", name, d.raw[at.start:at.end], value)
			}
		}
		asked, refusal := d.model("")
		if refusal != nil {
			return
		}
		// A reader that ignores case, as Go's own, must find the same model.
		var folded struct{ Model string }
		if json.Unmarshal(raw, &folded) != nil || folded.Model != asked {
			t.Fatalf("we see model %q, a case-insensitive reader %q", asked, folded.Model)
		}
		change := &changes{doc: d}
		change.setModel("model", `new "name"`)
		if options, _, refusal := d.usage(); refusal == nil {
			change.set("stream_options", options)
		}
		var after map[string]json.RawMessage
		out := bytes.Join(change.apply(), nil)
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("the edits broke it: %v\n%s", err, out)
		}
		if string(after["model"]) != `"new \"name\""` {
			t.Fatalf("model after the edit: %s", after["model"])
		}
		for name, value := range plain {
			if name != "model" && name != "stream_options" && string(after[name]) != string(value) {
				t.Fatalf("member %q changed from %s to %s", name, value, after[name])
			}
		}
	})
}
