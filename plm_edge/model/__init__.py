"""PLM itself: a float64 judge in numpy, and the readable model in PyTorch that can be trained."""
