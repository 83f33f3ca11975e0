"""Virtual devices: a Raspberry Pi and a phone as whole machines, and the tests that use them.

Everything is emulated by qemu on the CPU, reachable only from this machine's loopback, and built
from Debian's packages into a cache of its own (`store.py`).
"""
