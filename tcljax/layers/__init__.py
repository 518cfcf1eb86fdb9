"""Flax modules: the activations that a network can be given."""
