"""Checks with the real client libraries: each script runs in an environment that has them and nothing of ours.

A script knows base URL, key and certificate from `clients.given`, and is otherwise what a person would write. Its
public functions are the checks. One with the decorator `on_fakes` needs the answers of the suite's own engine.
"""
