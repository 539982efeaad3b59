"""One module a kind of problem: what `training.study` asks, answered. Imported by name, when a run is of that kind."""
