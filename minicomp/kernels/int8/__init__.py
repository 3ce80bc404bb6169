"""Kernels of fixed-point and 8-bit numbers: stochastic rounding, and what an integer program runs.

In a program's kernels maps are (N, H, W, C) uint8, contiguous: channels last, as the kernels want
them, and said in the shape. Codes of signed grids are shifted by 128, zero point included.
"""
