"""A Docker host and what services on it share."""
