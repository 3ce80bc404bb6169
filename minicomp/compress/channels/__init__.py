"""Channels and units: which go together, what removing them changes, how they are chosen."""
