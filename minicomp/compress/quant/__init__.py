"""Quantization: one paper, one file; `nodes`, `schemes` and `ranges` are what they share."""
