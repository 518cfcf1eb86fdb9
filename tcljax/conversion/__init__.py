"""A spiking network that stands on its own: made, stored, run."""
