"""The linear layer's function, and the ReLU after it, as fused primitives.

N batch, I in, O out.
"""

from __future__ import annotations

from .. import ops
from ..kernels.maps import dense
from ..tensor import fused


def _composite(x, w, b):
    return ops.matmul(x, ops.transpose(w)) + b


def _backward(g, saved, wanted, x, w, b):
    # dx = g w, dw = g' x, db = the sum of g over the batch
    dx = dense.linear_input_grad(g, w) if wanted[0] else None
    if not (wanted[1] or wanted[2]):
        return dx, None, None
    return dx, *dense.linear_weight_grad(x, g)


@fused(backward=_backward, composite=_composite)
def linear(x, w, b, *, save):
    """Returns x w' + b, (N, O).   x : (N, I)   w : (O, I)   b : (O,)"""
    return dense.linear(x, w, b), None


def _relu_composite(x, w, b):
    return ops.relu(_composite(x, w, b))


def _relu_backward(g, y, wanted, x, w, b):
    return _backward(dense.relu_dx(g, y), None, wanted, x, w, b)


@fused(backward=_relu_backward, composite=_relu_composite)
def linear_relu(x, w, b, *, save):
    """Returns max(x w' + b, 0), (N, O).   x : (N, I)   w : (O, I)   b : (O,)"""
    y = dense.linear(x, w, b, relu=True)
    return y, y
