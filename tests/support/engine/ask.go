package main

import (
	"encoding/json"
	"strings"
)

// ask is what a request says, in any of the APIs.
type ask struct {
	Model         string `json:"model"`
	Name          string `json:"name"` // Ollama's older word
	Stream        *bool  `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	Messages     []message       `json:"messages"`
	Prompt       json.RawMessage `json:"prompt"`
	Suffix       string          `json:"suffix"`
	Input        json.RawMessage `json:"input"`
	Instructions string          `json:"instructions"`
	System       string          `json:"system"`

	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	MaxOutputTokens     *int `json:"max_output_tokens"`
	Options             struct {
		NumPredict *int `json:"num_predict"`
	} `json:"options"`

	Tools      []tool          `json:"tools"`
	ToolChoice json.RawMessage `json:"tool_choice"`

	ResponseFormat form `json:"response_format"`
	Text           struct {
		Format form `json:"format"`
	} `json:"text"`
	Format json.RawMessage `json:"format"` // Ollama's: "json" or a schema

	EncodingFormat string `json:"encoding_format"`
	Dimensions     int    `json:"dimensions"`
}

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// tool is written flat in OpenAI's responses, and within a function everywhere else.
type tool struct {
	signature
	Function signature `json:"function"`
}

type signature struct {
	Name       string          `json:"name"`
	Parameters json.RawMessage `json:"parameters"`
}

type form struct {
	Type       string          `json:"type"`
	Schema     json.RawMessage `json:"schema"`
	JSONSchema struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// limit is the longest answer asked for, or 0.
func (a *ask) limit() int {
	for _, n := range []*int{a.MaxTokens, a.MaxCompletionTokens, a.MaxOutputTokens, a.Options.NumPredict} {
		if n != nil && *n > 0 {
			return *n
		}
	}
	return 0
}

// promptTokens are the words of everything that was said.
func (a *ask) promptTokens() int {
	words := len(strings.Fields(a.Instructions)) + len(strings.Fields(a.System)) + len(strings.Fields(a.Suffix))
	for _, m := range a.Messages {
		words += wordsIn(m.Content)
	}
	return words + wordsIn(a.Prompt) + wordsIn(a.Input)
}

// wordsIn counts the words of every text in a JSON value: of a message's content, or of an input's parts.
func wordsIn(raw json.RawMessage) int {
	if len(raw) == 0 {
		return 0
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return len(strings.Fields(text))
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) == nil {
		words := 0
		for _, part := range parts {
			words += wordsIn(part)
		}
		return words
	}
	var part struct {
		Text    string          `json:"text"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(raw, &part) == nil {
		return len(strings.Fields(part.Text)) + wordsIn(part.Content)
	}
	return 1 // a token's number
}

// texts are the inputs of an embedding.
func (a *ask) texts() []string {
	raw := a.Input
	if len(raw) == 0 {
		raw = a.Prompt
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []json.RawMessage
	if json.Unmarshal(raw, &many) != nil {
		return nil
	}
	texts := make([]string, len(many))
	for i, each := range many {
		if json.Unmarshal(each, &texts[i]) != nil {
			texts[i] = string(each)
		}
	}
	return texts
}

// call is the tool that the model would use: the first one, unless a tool has answered already.
func (a *ask) call() *signature {
	if len(a.Tools) == 0 || string(a.ToolChoice) == `"none"` {
		return nil
	}
	for _, m := range a.Messages {
		if m.Role == "tool" {
			return nil
		}
	}
	if strings.Contains(string(a.Input), `"function_call_output"`) {
		return nil
	}
	first := a.Tools[0]
	if first.Function.Name != "" {
		return &first.Function
	}
	return &first.signature
}

// shape is the JSON schema that the answer must have, or nil where text is fine.
func (a *ask) shape() json.RawMessage {
	for _, f := range []form{a.ResponseFormat, a.Text.Format} {
		switch f.Type {
		case "json_object":
			return json.RawMessage(`{}`)
		case "json_schema":
			if len(f.Schema) > 0 {
				return f.Schema
			}
			return f.JSONSchema.Schema
		}
	}
	switch string(a.Format) {
	case "", "null", `""`:
		return nil
	case `"json"`:
		return json.RawMessage(`{}`)
	}
	return a.Format
}

// sample is a value that keeps to a JSON schema, as far as schemas for models go.
func sample(raw json.RawMessage) any {
	var schema struct {
		Type       any                        `json:"type"`
		Enum       []any                      `json:"enum"`
		Const      any                        `json:"const"`
		Properties map[string]json.RawMessage `json:"properties"`
		Items      json.RawMessage            `json:"items"`
		AnyOf      []json.RawMessage          `json:"anyOf"`
	}
	_ = json.Unmarshal(raw, &schema)
	if kinds, several := schema.Type.([]any); several && len(kinds) > 0 {
		schema.Type = kinds[0]
	}
	switch {
	case schema.Const != nil:
		return schema.Const
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case len(schema.AnyOf) > 0:
		return sample(schema.AnyOf[0])
	}
	switch schema.Type {
	case "string":
		return "amber"
	case "integer", "number":
		return 7
	case "boolean":
		return true
	case "array":
		if len(schema.Items) == 0 {
			return []any{}
		}
		return []any{sample(schema.Items)}
	}
	made := map[string]any{}
	for name, property := range schema.Properties {
		made[name] = sample(property)
	}
	if len(made) == 0 && schema.Type == nil {
		made["answer"] = "amber"
	}
	return made
}
