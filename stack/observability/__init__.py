"""Metrics: what is read, kept and shown."""
