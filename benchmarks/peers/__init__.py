"""Rivals of jaxformer as their users would write them, with jaxformer's parameters and batches, for the benchmarks."""
