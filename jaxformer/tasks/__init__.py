"""Where labels meet models: one module a task. Not for counting steps (`training`) or for network code (`models`)."""
