"""Benchmarks, one command each: `python -m benchmarks.NAME`; what they gave is in `results.md`."""
