"""Benchmarks, their official scorers, statistics and the safety probes."""
