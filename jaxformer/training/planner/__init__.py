"""The planner: which layout of devices, micro-batches and recomputation a run should use, by memory and time."""
