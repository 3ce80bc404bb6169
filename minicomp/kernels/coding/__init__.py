"""Kernels of entropy coders: Huffman, range coder."""
