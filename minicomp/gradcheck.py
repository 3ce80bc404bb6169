"""Checks of gradients against what they mean: finite differences, and the adjoint identity.

One random direction is enough: a wrong gradient is orthogonal to a random direction with
probability 0. It costs a few evaluations of the function, whatever the number of its arguments'
entries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .tensor import Array, Tensor, grad

# f'(0) = (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12 h + O(h^4)
_STENCIL = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))


def grad_check(fn: Callable[..., Tensor], *arrays: Array, rng: np.random.Generator, order: int = 1,
               step: float = 1e-4, tolerance: float = 1e-7) -> float:
    """Returns the largest relative difference of derivative and finite difference, orders 1..order.

    fn : called as fn(*tensors); returns a Tensor of any shape
    arrays : float64, the point; fn must be smooth within a few steps of it
    order : 2 checks Hessian-vector products, 3 their derivatives
    step : of the finite differences, in units of the arrays' entries
    Raises AssertionError where the difference exceeds the tolerance, TypeError for other than
    float64.
    """
    for i, a in enumerate(arrays):
        if a.dtype != np.float64:
            raise TypeError(f"arrays[{i}] must be float64, got {a.dtype}")
    weight = rng.standard_normal(fn(*map(Tensor, arrays)).shape)

    def functional(*tensors):
        return (fn(*tensors) * weight).sum()

    worst = 0.0
    for k in range(1, order + 1):
        direction = [rng.standard_normal(a.shape) for a in arrays]
        derivative = _along(functional, direction, create_graph=k < order)
        exact = derivative(*_moved(arrays, direction, 0.0)).item()
        moved = [c * functional(*_moved(arrays, direction, m * step)).item() for m, c in _STENCIL]
        finite = sum(moved) / (12 * step)
        # Rounding: each value is exact to about 1e-16 of its size, and is divided by 12 steps.
        scale = max(abs(exact), abs(finite), 1e-8 * sum(map(abs, moved)) / step, 1e-300)
        worst = max(worst, abs(exact - finite) / scale)
        if worst > tolerance:
            raise AssertionError(
                f"order {k}: derivative {exact!r}, finite difference {finite!r}, "
                f"relative difference {abs(exact - finite) / scale:.1e}, tolerance {tolerance:.1e}")
        functional = derivative
    return worst


def _moved(arrays: tuple[Array, ...], direction: list[Array], t: float) -> list[Tensor]:
    return [Tensor(a + t * d, requires_grad=True) for a, d in zip(arrays, direction)]


def _along(functional, direction: list[Array], create_graph: bool):
    # The derivative of `functional` in `direction`, as a function of the same arguments.
    def derivative(*tensors):
        value = functional(*tensors)
        if not value.requires_grad:  # constant
            return Tensor(np.zeros(()))
        gradients = grad(value, tensors, create_graph=create_graph)
        total = (gradients[0] * direction[0]).sum()
        for g, d in zip(gradients[1:], direction[1:]):
            total = total + (g * d).sum()
        return total

    return derivative


def adjoint_check(fn: Callable[[Tensor], Tensor], x: Array, *, rng: np.random.Generator,
                  tolerance: float = 1e-12) -> float:
    """Returns |<A x, y> - <x, A'y>| / (|A x| |y|): A the linear fn, A' its gradient, y random.

    fn : linear in its one argument        x : float64
    Raises AssertionError where it exceeds the tolerance.
    """
    tensor = Tensor(x, requires_grad=True)
    image = fn(tensor)
    y = rng.standard_normal(image.shape)
    forward = float(np.vdot(image.data, y))
    backward = float(np.vdot(x, grad(image, tensor, cotangent=y).data))
    size = float(np.linalg.norm(image.data) * np.linalg.norm(y))
    error = abs(forward - backward) / max(size, 1e-300)
    if error > tolerance:
        raise AssertionError(f"<A x, y> = {forward!r}, <x, A'y> = {backward!r}, "
                             f"relative difference {error:.1e}, tolerance {tolerance:.1e}")
    return error
