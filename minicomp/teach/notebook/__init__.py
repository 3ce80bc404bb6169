"""Lesson notebooks: cells, building, pages."""
