"""Asking: exercises, how answers are judged and shown."""
