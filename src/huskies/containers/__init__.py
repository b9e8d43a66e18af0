"""New projects: a container with a sled, made by a gateway through a container engine."""
