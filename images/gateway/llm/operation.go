package llm

// operation is one way to ask an engine for something, known by its path.
type operation struct {
	name string // OpenTelemetry's gen_ai.operation.name
	role string // the role a model must have; empty: any
	// alsoModel is another member that may name the model.
	alsoModel string
	// native: only engines of kind "ollama" have it.
	native bool
	// streams is what an absent "stream" means.
	streams bool
	// usageOption: a stream tells its token counts only when stream_options asks.
	usageOption bool
	// caps are the members that bound an answer, in tokens; the first is the one that
	// every engine of the kind reads.
	caps []string
	// nested: the bound is Ollama's num_predict among the options.
	nested bool
	// choices are the members that ask for several answers (n_cmpl is llama.cpp's word);
	// prompts: a list of prompts does so too.
	choices []string
	prompts bool
	dialect *dialect
}

// Spellings of the bound in OpenAI's API: its own two, and llama.cpp's own, which goes
// before them there.
var capMembers = []string{"max_tokens", "max_completion_tokens", "n_predict"}

// operations are all paths that carry a body with a model, as they look after the
// route has stripped its own prefix.
var operations = map[string]*operation{
	"/v1/chat/completions": {name: "chat", role: roleChat, usageOption: true, caps: capMembers, choices: []string{"n", "n_cmpl"},
		dialect: dialectChat},
	"/v1/completions": {name: "text_completion", role: roleChat, usageOption: true, caps: capMembers,
		choices: []string{"n", "n_cmpl", "best_of"}, prompts: true, dialect: dialectText},
	"/v1/responses":   {name: "chat", role: roleChat, caps: []string{"max_output_tokens"}, dialect: dialectResponses},
	"/v1/embeddings":  {name: "embeddings", role: roleEmbedding, dialect: dialectText},
	"/api/chat":       {name: "chat", role: roleChat, native: true, streams: true, nested: true, dialect: dialectOllama},
	"/api/generate":   {name: "text_completion", role: roleChat, native: true, streams: true, nested: true, dialect: dialectOllama},
	"/api/embed":      {name: "embeddings", role: roleEmbedding, native: true, dialect: dialectOllama},
	"/api/embeddings": {name: "embeddings", role: roleEmbedding, native: true, dialect: dialectOllama},
	"/api/show":       {name: "show", alsoModel: "name", native: true, dialect: dialectOllama},
}

// dialect says where an API puts what the tap looks for. Keys are in quotes, as
// they stand in the JSON text.
type dialect struct {
	// content are the members that hold generated text in one piece of a stream.
	content [][]byte
	// final are texts of which one is in every piece that ends a stream, tells usage
	// or reports an error: only such pieces are parsed.
	final []marker
	// done is the line that ends a well-formed stream; empty: a member of the last
	// piece does.
	done string
}

// marker is a member whose value begins with one of some bytes.
type marker struct {
	key   []byte
	first string
}

func keys(names ...string) [][]byte {
	quoted := make([][]byte, len(names))
	for i, name := range names {
		quoted[i] = []byte(`"` + name + `"`)
	}
	return quoted
}

func mark(name, first string) marker { return marker{key: []byte(`"` + name + `"`), first: first} }

var (
	dialectChat = &dialect{
		content: keys("content", "reasoning_content", "reasoning", "tool_calls"),
		final:   []marker{mark("usage", "{"), mark("finish_reason", `"`), mark("error", `"{`)},
		done:    "[DONE]",
	}
	dialectText = &dialect{
		content: keys("text"),
		final:   []marker{mark("usage", "{"), mark("finish_reason", `"`), mark("error", `"{`)},
		done:    "[DONE]",
	}
	dialectResponses = &dialect{
		content: keys("delta"),
		final:   []marker{mark("usage", "{"), mark("error", `"{`), mark("incomplete_details", "{"), mark("code", `"`)},
	}
	dialectOllama = &dialect{
		content: keys("content", "response", "thinking", "tool_calls"),
		final:   []marker{mark("done", "t"), mark("error", `"{`)},
	}
)
