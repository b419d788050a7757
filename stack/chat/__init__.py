"""The chat UI."""
