"""Optimal Brain Damage (LeCun, Denker, Solla 1990, NIPS 2).

Small weights need not be unimportant ones. What deleting a weight does to the loss is, at a minimum
and to second order, h_kk u_k^2 / 2 if cross terms are neglected. So by their *saliency*

    s_k = h_kk u_k^2 / 2,     h_kk = d2E/du_k^2                                  (section 2)

parameters go in order of rising s_k; they are set to 0 and stay there.

h_kk comes from one pass backwards, like the gradient. With a_i = sum_j w_ij x_j and x_i = f(a_i),

    h_kk = sum over (i, j) in V_k of d2E/dw_ij^2,    d2E/dw_ij^2 = d2E/da_i^2 x_j^2     (eqs. 5, 6)
    d2E/da_i^2 = f'(a_i)^2 sum_l w_li^2 d2E/da_l^2 + f''(a_i) dE/dx_i                     (eq. 7)
    d2E/da_i^2 = 2 f'(a_i)^2 - 2 (d_i - x_i) f''(a_i)      at the output                  (eq. 8)

V_k are the connections that share parameter u_k: of a convolution, all positions. Dropping the
terms in f'' leaves the Levenberg-Marquardt approximation, which is never negative: `curvature =
gauss-newton`. With them it is `recursion`. Both neglect the cross terms between units that meet
again in a later layer, and between positions that share a weight. `exact` neglects nothing
(`hessian.exact_diagonal`).

Where we leave the paper: eq. 7 is printed with a minus before f''; the chain rule gives a plus. Its
E = sum (d - x)^2 has no half; ours has, which halves every h_kk and changes no order. The recursion
begins at the loss, so that cross-entropy has its own eq. 8: d2E/dz_k^2 = p_k (1 - p_k) with
p = softmax(z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import INPUT, Model, Node
from ...tensor import Array, Tensor, grad
from ..examples import calibration
from ..curvature.hessian import (
    CHUNK,
    LOSSES,
    check_loss,
    exact_diagonal,
    float64,
    layers,
    mean_loss,
    patches,
    weight_products,
)
from ..technique import (
    Technique, check_maskable, floor_knob, knob, least_kept, masked, one_for_all,
)
from ..scores import scoped_masks

CURVATURES = ("gauss-newton", "recursion", "exact")


# ----------------------------------------------------------------------------------- on arrays


def obd_saliency(u: Array, h: Array) -> Array:
    """Returns s_k = h_kk u_k^2 / 2.   u, h : parameters and their second derivatives, one shape

    Source: LeCun et al. 1990, section 2.2

    >>> obd_saliency(np.array([1., 3., 2.]), np.array([4., .1, 1.])).tolist()
    [2.0, 0.45000000000000007, 2.0]
    """
    return 0.5 * h * u * u


def obd_unit(h_x: Array, g_x: Array, f1: Array, f2: Array | None = None) -> Array:
    """Returns d2E/da^2 = f'(a)^2 d2E/dx^2 + f''(a) dE/dx, x = f(a); without f2 the first term.

    h_x, g_x : d2E/dx^2 and dE/dx        f1, f2 : f'(a) and f''(a)        all of one shape
    Source: LeCun et al. 1990, eq. (7), with the sign of the chain rule
    """
    return f1 * f1 * h_x if f2 is None else f1 * f1 * h_x + f2 * g_x


def obd_input(W: Array, h_a: Array) -> Array:
    """Returns d2E/dx_j^2 = sum_i w_ij^2 d2E/da_i^2, (P, I).   W : (O, I)   h_a : (P, O)

    Source: LeCun et al. 1990, the sum in eq. (7)
    """
    return h_a @ (W * W)


def obd_weight(h_a: Array, x: Array) -> Array:
    """Returns d2E/dw_ij^2 = sum_p d2E/da_pi^2 x_pj^2, (O, I).   h_a : (P, O)   x : (P, I)

    Source: LeCun et al. 1990, eq. (6), for E a sum over examples
    """
    return h_a.T @ (x * x)


def obd_shared(h: Array, index: Array, k: int) -> Array:
    """Returns h_kk of k shared parameters, (k,): the sum over the connections V_k of each.

    h : d2E/dw^2 of each connection        index : which parameter it uses, 0..k-1, the same shape
    Source: LeCun et al. 1990, eq. (5)
    """
    return np.bincount(index.ravel(), weights=h.ravel(), minlength=k)


# ------------------------------------------------------------------------------------- of a net


def second_derivatives(model: Model, x: Array, y: Array, loss: str, *, f2: bool
                       ) -> dict[str, Array]:
    """Returns h of every weight and bias by form name, in its shape, by one pass backwards.

    model : of `hessian.float64`        x, y : examples, over which E is the mean
    f2 : with the terms in f'', which may make h negative
    Raises UserError for a layer without a rule.
    Source: LeCun et al. 1990, eqs. (5) to (8)
    """
    total: dict[str, Array] = {}
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        part = np.asarray(x[rows], np.float64)
        for name, h in _backwards(model, part, y[rows], loss, f2).items():
            total[name] = total.get(name, 0.0) + h * (len(part) / len(x))
    return {name: h.reshape(model.forms()[name].shape) for name, h in total.items()}


def _backwards(model: Model, x: Array, y: Array, loss: str, f2: bool) -> dict[str, Array]:
    z, outputs = model(x, taps=tuple(node.name for node in model.nodes))
    nodes = [node for node in model.nodes if outputs[node.name].requires_grad]
    g_x = grad(mean_loss(z, y, loss), [outputs[node.name] for node in nodes])
    outputs[INPUT] = Tensor(x)
    h_x = {model.nodes[-1].name: _at_output(z.data, loss)}
    found = {f"{node.name}.{part}": np.zeros(form.shape) for node in layers(model)
             for part, form in node.layer.forms.items()}              # what nothing uses stays 0
    for node, g in zip(reversed(nodes), reversed(g_x)):
        h, inputs = h_x.pop(node.name, None), [outputs[i].data for i in node.inputs]
        if h is None:                                                 # nothing uses it
            continue
        if node.layer.coupling == "mix":
            columns = patches(node.layer, inputs[0])
            for part, hw in weight_products(node.layer, h, columns * columns, each=False).items():
                found[f"{node.name}.{part}"] = hw
        if any(outputs[name].requires_grad for name in node.inputs):
            for name, back in zip(node.inputs, _through(node, h, g.data, inputs, f2)):
                h_x[name] = h_x[name] + back if name in h_x else back
    return found


def _at_output(z: Array, loss: str) -> Array:
    # d2E/dz^2 of the mean loss
    if loss == "squared":
        return np.full_like(z, 1 / len(z))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p * (1 - p) / len(z)


def _through(node: Node, h: Array, g: Array, inputs: list[Array], f2: bool) -> list[Array]:
    # d2E/d input^2 of a node's inputs from h = d2E/d output^2 and g = dE/d output, eq. (7).
    if node.layer.pointwise:
        f1, bend = node.layer.slopes(inputs[0])
        return [obd_unit(h, g, f1, bend if f2 else None)]
    try:
        return node.layer.pull_squared(h, *inputs)
    except NotImplementedError:
        raise UserError(f"obd: no rule takes second derivatives back through {node.name}, "
                        f"a {node.layer.kind}; use curvature=exact") from None


# -------------------------------------------------------------------------------- the technique


@dataclass(frozen=True)
class OBD(Technique):
    """Deletes the weights of least saliency h_kk u_k^2 / 2; the others stay as they are."""

    word: ClassVar[str] = "obd"
    title: ClassVar[str] = "Optimal Brain Damage"
    source: ClassVar[str] = "LeCun, Denker & Solla 1990, Optimal Brain Damage, NIPS 2"

    sparsity: float = knob(0.5, "fraction of zeros, exactly round(s n)", lo=0, hi=1, below=True,
                           per_layer=True)
    scope: str = knob("global", "what is ranked together", choices=("local", "global"))
    floor: float = floor_knob()
    curvature: str = knob("gauss-newton", "h_kk without or with f'' terms, or exact",
                          choices=CURVATURES)
    loss: str = knob("cross-entropy", "whose second derivatives are taken", choices=LOSSES)
    samples: int = knob(1000, "training examples drawn for h; all where there are fewer", lo=1)
    rounds: int = knob(1, "deletions in so many equal steps, h taken anew before each", lo=1)
    biases: bool = knob(False, "biases may go too")

    def __post_init__(self):
        super().__post_init__()
        one_for_all(self.word, self.scope, self.sparsity, self.floor)

    def targets(self, model):
        return [node.name for node in layers(model)]

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model, self.names(model))
        check_loss(self.word, model, self.loss)

    def change(self, model, data, run):
        names = self.names(model)
        split = calibration(self, data, run)
        for done in range(1, self.rounds + 1):
            h = self.second(model, split.x, split.y)
            saliency = {n: self.scores(model, n, lambda u: obd_saliency(u, h[n])) for n in names}
            model = masked(model, self.masks(model, saliency, done / self.rounds))
            run.log({"event": "progress", "name": self.word, "done": done, "total": self.rounds})
        return model

    def second(self, model: Model, x: Array, y: Array) -> dict[str, Array]:
        """Returns h_kk by form name, as the knobs have it; UserError where one is not finite."""
        model = float64(model)
        h = (exact_diagonal(model, x, y, self.loss) if self.curvature == "exact" else
             second_derivatives(model, x, y, self.loss, f2=self.curvature == "recursion"))
        for name, each in h.items():
            if not np.isfinite(each).all():
                raise UserError(f"obd: second derivatives of {name} must be finite, got NaN or "
                                "infinity")
        return h

    def names(self, model: Model) -> list[str]:
        """Returns the names of the forms that may lose entries; UserError where there are none."""
        found = [f"{node.name}.{part}" for node in layers(model) for part in node.layer.forms
                 if self.biases or part != "bias"]
        if not found:
            raise UserError("obd: the model has no Linear or Conv2d layer")
        return found

    @staticmethod
    def scores(model: Model, name: str, score: Callable[[Array], Array]) -> Array:
        """Returns scores of a form's entries, float64."""
        return score(model.forms()[name].dense().data.astype(np.float64))

    def masks(self, model: Model, scores: dict[str, Array], part: float) -> dict[str, Array]:
        """Returns the masks that drop `part` of the sparsity, smallest scores first, by name."""
        old = {name: form.mask for name, form in model.forms().items()}
        return scoped_masks(self.word, scores, old, lambda name: part * self.at(
            "sparsity", name.rsplit(".", 1)[0]), self.scope,
            least=least_kept(model, self.floor))

    def sketch(self, model, *, rng):
        scores = {n: self.scores(model, n, np.abs) for n in self.names(model)}
        return masked(model, self.masks(model, scores, 1.0))
