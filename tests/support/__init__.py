"""What several rungs of the test ladder share: the recorded plan, the samples, golden files, tools, fakes."""
