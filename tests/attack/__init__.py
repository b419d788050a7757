"""`make attack`: generated raw requests against the gateway, judged by what the servers behind it saw."""
