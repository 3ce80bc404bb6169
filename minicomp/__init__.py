"""minicomp: neural-network model compression from scratch."""

from .kernels.cpu import warn_if_shadowed
from .tensor import Tensor, grad, hvp, no_grad

__version__ = "0.1.0"
__all__ = ["Tensor", "__version__", "grad", "hvp", "no_grad"]
warn_if_shadowed()
