"""The one error of this package: a sentence for the person who runs `make up`."""


class OfflineError(RuntimeError):
    """Something could not be had from packages; the message says what, where the log is, and what to do."""
