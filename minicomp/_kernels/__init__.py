"""The compiled kernels, one module per kernels_pyx/*.pyx; `minicomp.kernels` is the door."""
