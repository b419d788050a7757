package llm

// loadOptions are Ollama's options that make it load a model again when they differ from
// how it is loaded (Runner in its api/types.go): for everybody, at the pace of a disk.
var loadOptions = []string{"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"}

// leaveLoaded takes out of a request of Ollama's own API what decides how a model is
// loaded and how long it stays: that is the platform's configuration, not one client's
// choice. null is what Ollama takes for "not said".
func (c *changes) leaveLoaded(op *operation) *apiError {
	null := []byte("null")
	if !op.native {
		return nil
	}
	if _, there := c.doc.members["keep_alive"]; there {
		c.set("keep_alive", null)
	}
	raw := c.doc.value("options")
	if raw == nil {
		return nil
	}
	if raw[0] != '{' {
		return errBadOptions
	}
	options, refusal := findFields(c.doc.raw, c.doc.members["options"].start, maxOptionsDepth)
	if refusal != nil {
		return refusal
	}
	for _, name := range loadOptions {
		if at, there := options.members[name]; there {
			c.edits = append(c.edits, edit{at, null})
		}
	}
	return nil
}
