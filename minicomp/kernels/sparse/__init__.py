"""Kernels that skip zeros: lanes, rows, n of every m."""
