"""Kernels of layers on float32 maps: convolution, pooling, normalisation, dense."""
