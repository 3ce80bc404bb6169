"""A decoder of .mcz files in plain Python, written from minicomp/codec/FORMAT.md alone.

It imports nothing of minicomp, nor of any package; each file holds the sections of the page that
its first line names. It is slow, and refuses only what it stumbles over.
"""

from .file import decoded

__all__ = ["decoded"]
