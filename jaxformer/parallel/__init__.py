"""Devices: the mesh and how arrays lie on it. Not for models: they never spell a mesh axis."""
