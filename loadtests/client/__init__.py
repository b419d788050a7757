"""The streaming client: requests in, records out, each piece stamped when the kernel had it."""
