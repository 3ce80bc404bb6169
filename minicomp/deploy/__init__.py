"""Running a compressed model: what its forms are good for besides small files."""

from .sparse import prepare

__all__ = ["prepare"]
