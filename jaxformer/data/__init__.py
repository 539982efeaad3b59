"""Host-side data: sources, cleaning, tokenisation, caching, batching by tokens, and the checkpointable pipeline.

Everything here runs without a device and without a model; importing it initialises no JAX backend.
"""
