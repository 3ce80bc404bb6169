"""From forms to bytes and back: bits, position codes, Huffman codes, the .mcz container, safetensors."""

from .container import Row, Shown, decode, encode, load, save, show
from .positions import Choice

__all__ = ["Choice", "Row", "Shown", "decode", "encode", "load", "save", "show"]
