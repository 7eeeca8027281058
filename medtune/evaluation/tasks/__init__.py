"""The benchmarks: what each asks of a model, and what it counts."""
