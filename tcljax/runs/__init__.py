"""What the commands do, from a checked config."""
