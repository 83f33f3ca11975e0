"""From a checkpoint to a GGUF file, and the makers and readers of both."""
