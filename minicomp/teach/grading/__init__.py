"""Grading: one notebook, a class, feedback."""
