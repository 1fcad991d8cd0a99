"""Measurements against named peers; each module is a command, each result a file in benchmarks/results/."""
