"""Quantization: one paper, one file; `nodes` and `schemes` are what they have in common."""
