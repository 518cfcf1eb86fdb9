"""What a network reaches, and why."""
