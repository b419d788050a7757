"""Stand-in models for the package-mirror path: made here, byte for byte the same everywhere.

`tiny-chat` speaks gibberish, `tiny-embed` finds texts that share words; both go through the real engine.
"""
