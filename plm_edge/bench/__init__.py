"""Speed and memory of an engine on a file: plan → run → statistics → rows → tables."""
