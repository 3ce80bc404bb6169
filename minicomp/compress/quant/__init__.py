"""Techniques that store weights, and what flows between layers, in fewer bits."""
