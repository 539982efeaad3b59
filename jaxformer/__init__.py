"""jaxformer: encoder-decoder and encoder Transformers in JAX."""
