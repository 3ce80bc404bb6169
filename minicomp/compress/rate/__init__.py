"""Weights by what they cost in the file: rate beside distortion, or beside the loss."""
