"""Benchmarks: always a ratio against a named baseline, measured in one run."""
