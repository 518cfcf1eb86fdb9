"""Pure functions on arrays, free of Flax and of configs."""
