"""One run: its words, the look at its target, and its course of loads."""
