"""One page from many results: what was measured, what may be compared, and by which command."""
