"""plm-edge: PLM on the device in your hand, as fast as its memory bus allows."""

__version__ = "0.1.0"
