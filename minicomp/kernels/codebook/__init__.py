"""Kernels of shared weights: k-means on a line."""
