"""From forms to bytes and back: the .mcz container and its parts."""

from .accounting import PARTS, Row, Shown
from .files import decode, encode, load, save, show
from .positions import LAYOUTS, Choice

__all__ = [
    "Choice",
    "LAYOUTS",
    "PARTS",
    "Row",
    "Shown",
    "decode",
    "encode",
    "load",
    "save",
    "show",
]
