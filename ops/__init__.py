"""What `make` calls: find or install the tools, check the host, run Pulumi, show the result.

Nothing in here creates or changes a platform resource: that is the program's work (`__main__.py`, `stack/`).
"""
