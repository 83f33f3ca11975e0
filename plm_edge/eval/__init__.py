"""What a file's answers are worth: perplexity, divergence from a reference, tasks."""
