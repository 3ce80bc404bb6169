"""minicomp: neural-network model compression from scratch.

    from minicomp import Tensor, grad, hvp             the engine
    minicomp.nn                                        models, layers, forms: a model is data
    minicomp.models, minicomp.data                     built-in nets, data sets and one's own arrays
    minicomp.train                                     the plain loop, and `evaluate`
    minicomp.compress                                  techniques; each is one paper and one file
    minicomp.save(model, path), minicomp.load(path)    one real file, .mcz; show(path): its bytes
    minicomp.deploy                                    programs: a model made ready to be called
    minicomp.exchange                                  safetensors, as PyTorch reads them, and ONNX
    minicomp.passport                                  what a model holds, costs and gets wrong
    minicomp.quality                                   how a net agrees with another one
    minicomp.jobs                                      recipes, budgets, sensitivity
    minicomp.search                                    the best net of a space under a limit
    minicomp.report                                    the page and the pictures
    minicomp.reference                                 functions to check an implementation against

`help(minicomp.compress)` and so on go on from there; on the command line, `minicomp --help`.
"""

from .interrupt import guard_imports

guard_imports()

from .kernels.cpu import warn_if_shadowed  # noqa: E402
from .tensor import Tensor, grad, hvp, no_grad  # noqa: E402

__version__ = "0.6.0"
warn_if_shadowed()

from . import data, deploy, exchange, models, nn, train  # noqa: E402
from .codec import load, save, show  # noqa: E402
from . import compress, jobs, passport, quality, reference, report, search  # noqa: E402

__all__ = ["Tensor", "__version__", "compress", "data", "deploy", "exchange", "grad", "hvp", "jobs",
           "load", "models", "nn", "no_grad", "passport", "quality", "reference", "report",
           "save", "search", "show", "train"]
