"""Forms of an operation that a device runs fast."""
