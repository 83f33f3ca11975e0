"""Devices: what they are, and how to reach them."""
