"""A network's spiking twin through time."""
