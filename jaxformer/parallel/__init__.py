"""Devices: the mesh and how arrays lie on it. Models use `sharding` alone and spell no mesh axis."""
