"""Pruning of convolution filters: what they are worth, which go, and the smaller network."""
