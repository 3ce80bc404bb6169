"""From forms to bytes and back: the .mcz container, its parts, and safetensors files."""

from .accounting import PARTS, Row, Shown
from .model import decode, encode, load, save, show
from .positions import LAYOUTS, Choice
from ..exchange.safetensors import load_safetensors, save_safetensors

__all__ = [
    "Choice",
    "LAYOUTS",
    "PARTS",
    "Row",
    "Shown",
    "decode",
    "encode",
    "load",
    "load_safetensors",
    "save",
    "save_safetensors",
    "show",
]
