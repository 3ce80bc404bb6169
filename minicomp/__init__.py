"""minicomp: neural-network model compression from scratch.

    from minicomp import Tensor, grad, hvp, nn         the engine
    minicomp.save(model, path), minicomp.load(path)    one real file, .mcz
    minicomp.reference                                 functions to check an implementation against
"""

from .interrupt import guard_imports

guard_imports()

from .kernels.cpu import warn_if_shadowed  # noqa: E402
from .tensor import Tensor, grad, hvp, no_grad  # noqa: E402

__version__ = "0.2.0"
warn_if_shadowed()

from . import nn  # noqa: E402
from .codec import load, save, show  # noqa: E402

__all__ = ["Tensor", "__version__", "grad", "hvp", "load", "nn", "no_grad", "save", "show"]
