"""Devices, hosts, and what is kept on disk."""
