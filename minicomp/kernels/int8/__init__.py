"""Kernels of fixed-point and 8-bit numbers: stochastic rounding."""
