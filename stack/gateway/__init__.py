"""The gateway: the only way in."""
