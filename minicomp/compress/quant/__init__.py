"""Quantization: one paper, one file; `nodes`, `schemes` and `ranges` are what they share."""
"""Quantization: one paper, one file; `nodes` and `schemes` are what they have in common."""
