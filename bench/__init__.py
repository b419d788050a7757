"""Benchmarks that stand outside the test run, on the same gateway and the same fake engine as the tests."""
