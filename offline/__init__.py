"""Package-mirror installs: how to get the platform's parts where only language and Debian packages are reachable.

No product code lives here. Nothing but the standard library, the packages of `requirements/` and `stack.versions`
may be imported.
"""
