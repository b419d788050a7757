"""A platform of the tests' own on the real Docker engine, and what looks at it from outside."""
