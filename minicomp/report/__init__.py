"""The page of a compression, its tables, and the pictures: `plots`, `pictures`."""

from . import pictures, plots
from .compression import Compression, write_report

__all__ = ["Compression", "pictures", "plots", "write_report"]
