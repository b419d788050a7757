"""Load tests: how many people a gateway serves, measured so that it can be believed."""
