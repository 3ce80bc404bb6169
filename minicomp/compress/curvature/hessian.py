"""Second derivatives of the loss: what OBD, OBS and their row-wise descendants are made of.

P examples, K outputs, n weights, R rows; w (n,) the weights as one vector, z (P, K) the outputs of
the net, a those of a layer, before its activation. The loss is the mean over examples,
E = 1/P sum_p e(z_p, y_p), with e the cross-entropy or half the squared error.

    H = J' H_z J + sum_k dE/dz_k d2z_k/dw2            (chain rule; J = dz/dw, H_z = d2e/dz2)

The first term alone is the Gauss-Newton matrix: a sum of outer products X'X / P, never indefinite,
and equal to H where the errors dE/dz vanish. Three views of H are computed here:

| view                    | how                                     | cost                       |
|-------------------------|-----------------------------------------|----------------------------|
| rows X of Gauss-Newton  | gradients of the outputs                | a backward pass an output  |
| exact H, exact diagonal | the engine's derivative of the gradient | a pass a weight, or a unit |
| a layer's X'X / P       | its inputs (`layerwise`)                | one forward pass           |

Everything is float64; `float64` copies a model for it. Examples never need a pass of their own: a
layer's per-example gradient is the product of dz/da and its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense
from ...nn.graph import INPUT, Model, Node
from ...nn.layers import Layer
from ...nn.losses import cross_entropy, one_hot
from ...tensor import Array, Tensor, grad, no_grad
from ..technique import check_movable

LOSSES = ("cross-entropy", "squared")
CHUNK = 256  # examples at a time: bounds the memory of rows and patches

# ----------------------------------------------------------------------------------- on arrays


def hessian(X: Array, alpha: float, P: int | None = None) -> Array:
    """Returns H = alpha I + X'X / P, (n, n).

    X : (R, n), one gradient of an output a row        P : examples; None takes R
    Source: Hassibi & Stork 1993, section 3; alpha I is the H_0 of its recursion
    """
    X = np.asarray(X, np.float64)
    return alpha * np.eye(X.shape[1]) + X.T @ X / (P or len(X))


def inverse_hessian(X: Array, alpha: float, P: int | None = None, block: int = 1) -> Array:
    """Returns the inverse of alpha I + X'X / P, (n, n), gradient by gradient, without inverting.

        H_0^-1 = I / alpha
        H_m+1^-1 = H_m^-1 - (H_m^-1 x x' H_m^-1) / (P + x' H_m^-1 x)

    X : (R, n), one gradient a row        alpha : > 0        P : examples; None takes R
    block : rows taken at a time, by the same identity for several x; 1 is the paper, more is faster
    Raises ValueError where alpha is not positive or X not finite.
    Source: Hassibi & Stork 1993, section 3: the inversion lemma applied to H_m+1 = H_m + x x' / P
    """
    X = np.asarray(X, np.float64)
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if not np.isfinite(X).all():
        raise ValueError("X must be finite, got NaN or infinity")
    P = P or len(X)
    Hinv = np.eye(X.shape[1]) / alpha
    for start in range(0, len(X), block):
        x = X[start:start + block].T                                  # (n, block)
        v = Hinv @ x
        if block == 1:
            Hinv -= (v / (P + x.T @ v)) @ v.T
        else:
            Hinv -= v @ np.linalg.solve(P * np.eye(x.shape[1]) + x.T @ v, v.T)
    return 0.5 * (Hinv + Hinv.T)


def eliminated(Hinv: Array, q: int) -> Array:
    """Returns the inverse of H without row and column q, zeros in their place, from H^-1, (n, n).

        H^-1 - H^-1 e_q e_q' H^-1 / [H^-1]_qq                (inversion by blocks)
    """
    out = Hinv - np.outer(Hinv[:, q] / Hinv[q, q], Hinv[q])
    out[q], out[:, q] = 0.0, 0.0
    return out


def damped_inverse(H: Array, damping: float) -> tuple[Array, float]:
    """Returns (H + lambda I)^-1 and lambda: damping x mean(diag H), more until H is regular.

    H : (n, n) symmetric        damping : relative to the mean of the diagonal, >= 0
    Regular means that Cholesky's pivots stay above n eps of the largest; lambda grows tenfold.
    Raises ValueError where H is not finite, or no lambda up to 10^8 times that mean is enough.
    """
    from scipy.linalg import solve_triangular

    if not np.isfinite(H).all():
        raise ValueError("H must be finite, got NaN or infinity")
    n, scale = len(H), float(np.abs(np.diag(H)).mean()) or 1.0
    used = damping * scale
    while used <= 1e8 * scale:
        try:
            L = np.linalg.cholesky(H + used * np.eye(n))
            pivots = np.diag(L) ** 2
            if pivots.min() > n * np.finfo(float).eps * pivots.max():
                Linv = solve_triangular(L, np.eye(n), lower=True)
                return Linv.T @ Linv, used
        except np.linalg.LinAlgError:
            pass
        used = max(10 * used, 1e-10 * scale)
    raise ValueError("H must be regular after damping, got one that is not")


# ---------------------------------------------------------------------------------- of a model


def float64(model: Model) -> Model:
    """Returns a copy whose forms are float64, Dense, trainable, unmasked: for derivatives."""
    other = model.copy()
    with no_grad():
        for name, form in model.forms().items():
            other.set_form(name, Dense(form.dense().data.astype(np.float64)))
    return other


def layers(model: Model) -> list[Node]:
    """Returns the nodes of whose weights second derivatives are taken: Linear, Conv2d and such."""
    return [node for node in model.nodes if node.layer.coupling == "mix"]


def check_layers(word: str, model: Model) -> None:
    """Raises UserError, beginning with `word`, where weights cannot be pruned by moving them:
    a form whose entries are shared, or no Linear or Conv2d at all."""
    if not layers(model):
        raise UserError(f"{word}: the model has no Linear or Conv2d layer")
    names = [f"{node.name}.{part}" for node in layers(model) for part in node.layer.forms]
    check_movable(word, model, names)


def check_loss(word: str, model: Model, loss: str) -> None:
    """Raises UserError, beginning with `word`, for cross-entropy of a model of one output."""
    if loss == "cross-entropy" and [*model.shapes().values()][-1][0] < 2:
        raise UserError(f"{word}: loss must be squared for a model of one output, got "
                        "cross-entropy")


def targets(y: Array, K: int) -> Array:
    """Returns the (P, K) targets of squared error: one-hot labels; the label itself if K is 1."""
    return one_hot(y, K, np.float64) if K > 1 else np.asarray(y, np.float64)[:, None]


def mean_loss(z: Tensor, y: Array, loss: str) -> Tensor:
    """Returns E: the mean cross-entropy, or sum |d - z|^2 / 2P.   z : (P, K)   y : (P,) labels

    Raises UserError for cross-entropy of one output.
    """
    if loss == "squared":
        error = z - targets(y, z.shape[1])
        return (error * error).sum() * (0.5 / len(y))
    if z.shape[1] < 2:
        raise UserError("loss must be squared for a model of one output, got cross-entropy")
    return cross_entropy(z, y)


def tapped(model: Model, x: Array, nodes: Sequence[Node]
           ) -> tuple[Tensor, list[Tensor], list[Array]]:
    """Returns z, the output Tensor a of each node, and the input array of each.

    model : of `float64`        x : (P, ...)
    """
    x = np.asarray(x, np.float64)
    taps = {node.name for node in nodes} | {node.inputs[0] for node in nodes} - {INPUT}
    z, found = model(x, taps=tuple(taps))
    found[INPUT] = Tensor(x)
    return z, [found[n.name] for n in nodes], [found[n.inputs[0]].data for n in nodes]


def input_rows(layer: Layer, x: Array, *, ones: bool = False) -> Array:
    """Returns what the outputs of a layer see of its input, an output a row, (G, P L, C).

    x : (P, I) of a Linear (L = G = 1), or (P, I, H, W) of a Conv2d: L positions, G groups
    ones : an entry 1 ends each row: what a bias sees
    C entries in the order of a row of the weight, w.reshape(O, C)
    Raises UserError for a layer that does not show them.
    """
    try:
        return layer.rows(x, ones=ones)
    except NotImplementedError:
        raise UserError(f"a {layer.kind} does not show what its outputs see of its input: second "
                        "derivatives of its weights are not known") from None


def patches(layer: Layer, x: Array) -> Array:
    """Returns `input_rows` by example, (P, G, L, C)."""
    rows = input_rows(layer, x)
    return rows.reshape(len(rows), len(x), -1, rows.shape[2]).transpose(1, 0, 2, 3)


def by_unit(layer: Layer, d: Array) -> Array:
    """Returns an array of a layer's output shape as (P, G, O / G, L), to go with `patches`."""
    G = layer.groups
    return d.reshape(len(d), G, d.shape[1] // G, -1)


def weight_products(layer: Layer, d: Array, columns: Array, each: bool) -> dict[str, Array]:
    """Returns the sum over positions of d times the input: of each example, or of all together.

    With d = dz/da it is dz/dw; with d = d2E/da2 and squared inputs, the diagonal of d2E/dw2 as far
    as positions do not meet.
    d : of the layer's output shape        columns : (P, G, L, C) of `patches`
    result : {"weight": (P, O C), "bias": (P, O)}, without P where not each
    """
    d = by_unit(layer, d)                                             # (P, G, O/G, L)
    if each:
        w, b = d @ columns, d.sum(axis=3)
    else:
        G, C = columns.shape[1], columns.shape[3]
        flat = columns.transpose(1, 0, 2, 3).reshape(G, -1, C)        # (G, P L, C)
        w = d.transpose(1, 2, 0, 3).reshape(G, -1, flat.shape[1]) @ flat
        b = d.sum(axis=(0, 3))
    lead = (len(d), -1) if each else (-1,)
    out = {"weight": w.reshape(lead), "bias": b.reshape(lead)}
    return {part: out[part] for part in layer.forms}


def jacobian(model: Model, x: Array) -> dict[str, Array]:
    """Returns dz/dw of each example by form name, (P, K, size of the form).

    model : of `float64`; the weights and biases of its Linear and Conv2d layers
    """
    nodes = layers(model)
    z, outputs, inputs = tapped(model, x, nodes)
    columns = [patches(node.layer, xi) for node, xi in zip(nodes, inputs)]
    J: dict[str, list] = {f"{n.name}.{part}": [] for n in nodes for part in n.layer.forms}
    for k in range(z.shape[1]):
        for node, d, c in zip(nodes, grad(z[:, k].sum(), outputs), columns):
            for part, product in weight_products(node.layer, d.data, c, each=True).items():
                J[f"{node.name}.{part}"].append(product)
    return {name: np.stack(rows, axis=1) for name, rows in J.items()}


def gauss_newton_rows(model: Model, x: Array, names: Sequence[str], loss: str) -> Iterator[Array]:
    """Yields rows X, (R, n) a chunk of examples, K rows an example: X'X / P is Gauss-Newton's H.

    model : of `float64`        names : of the forms, whose entries follow one another in w
    """
    for start in range(0, len(x), CHUNK):
        part = np.asarray(x[start:start + CHUNK], np.float64)
        with no_grad():
            z = model(part).data
        found = jacobian(model, part)
        J = np.concatenate([found[name] for name in names], axis=2)   # (P, K, n)
        yield loss_factors(z, J, loss).reshape(-1, J.shape[2])


def exact_hessian(model: Model, x: Array, y: Array, names: Sequence[str], loss: str) -> Array:
    """Returns d2E/dw2, (n, n), with all its terms: one derivative of the gradient a weight.

    model : of `float64`        names : of the forms, whose entries follow one another in w
    """
    params = [model.forms()[name].value for name in names]
    E = mean_loss(model(np.asarray(x, np.float64)), y, loss)
    rows = [np.concatenate([h.data.ravel() for h in _second(g[i], params)])
            for g in grad(E, params, create_graph=True) for i in np.ndindex(g.shape)]
    H = np.array(rows)
    return 0.5 * (H + H.T)


def exact_diagonal(model: Model, x: Array, y: Array, loss: str) -> dict[str, Array]:
    """Returns d2E/dw_k2 of every weight and bias, with all its terms, by form name, in its shape.

    A Linear's output is linear in its weights, and examples do not meet, so that
    d2E/dw_ij2 = sum_p d2E/da_pi2 x_pj^2: one derivative of the gradient a *unit*. Positions that
    share a convolution's weights do meet: there it is one a weight.
    model : of `float64`
    """
    nodes = layers(model)
    total = {f"{n.name}.{part}": 0.0 for n in nodes for part in n.layer.forms}
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        z, outputs, inputs = tapped(model, x[rows], nodes)
        E = mean_loss(z, y[rows], loss) * (len(z.data) / len(x))
        for node, a, g, xi in zip(nodes, outputs, grad(E, outputs, create_graph=True), inputs):
            diagonal = _linear_diagonal if a.ndim == 2 else _conv_diagonal
            for part, h in diagonal(node.layer, a, g, patches(node.layer, xi)).items():
                total[f"{node.name}.{part}"] = total[f"{node.name}.{part}"] + h
    return {name: h.reshape(model.forms()[name].shape) for name, h in total.items()}


def hutchinson_trace(model: Model, x: Array, y: Array, names: Sequence[str], loss: str, *,
                     draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Returns the trace of each form's block of d2E/dw2, all terms, by name: mean of v' H v.

        E v' H v = tr H   for v of independent signs +-1; blocks of other forms have mean 0

    model : of `float64`        names : of forms        draws : of v; the error falls as their root
    Source: Hutchinson 1990; as HAWQ-V2 takes it, Dong et al. 2020, arXiv 1911.03852, section 3.2
    """
    params = [model.forms()[name].value for name in names]
    total = np.zeros(len(names))
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        E = mean_loss(model(np.asarray(x[rows], np.float64)), y[rows], loss)
        g = grad(E, params, create_graph=True)
        for _ in range(draws):
            v = [rng.integers(0, 2, p.shape) * 2.0 - 1 for p in params]
            along = sum((gi * vi).sum() for gi, vi in zip(g, v) if gi.requires_grad)
            if isinstance(along, Tensor):
                products = _second(along, params)
                total += [np.vdot(vi, h.data) * len(y[rows]) / len(x)
                          for vi, h in zip(v, products)]
    return dict(zip(names, (total / draws).tolist()))


def _second(g: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    # The gradient of a gradient; zeros where that is a constant.
    return grad(g, inputs) if g.requires_grad else [Tensor(np.zeros_like(t.data)) for t in inputs]


def _linear_diagonal(layer: Layer, a: Tensor, g: Tensor, columns: Array) -> dict[str, Array]:
    h = [_second(g[:, i].sum(), [a])[0].data[:, i] for i in range(a.shape[1])]
    return weight_products(layer, np.stack(h, axis=1), columns * columns, each=False)


def _conv_diagonal(layer: Layer, a: Tensor, g: Tensor, columns: Array) -> dict[str, Array]:
    # Along w[o, c] the output moves by v, entry c of the patches in channel o: h = v' (d2E/da2) v.
    P, O, Ho, Wo = a.shape
    G, C = columns.shape[1], columns.shape[3]
    columns = with_ones(columns)
    h = np.zeros((O, C + 1))
    for o, c in np.ndindex(O, C + 1):
        v = columns[:, o // (O // G), :, c].reshape(P, Ho, Wo)
        h[o, c] = np.vdot(_second((g[:, o] * v).sum(), [a])[0].data[:, o], v)
    out = {"weight": h[:, :-1], "bias": h[:, -1]}
    return {part: out[part] for part in layer.forms}


def with_ones(columns: Array) -> Array:
    """Returns the patches with an entry 1 at their end: what a bias sees."""
    return np.concatenate([columns, np.ones((*columns.shape[:-1], 1))], axis=-1)


def output_curvature(model: Model, x: Array, loss: str) -> dict[str, Array]:
    """Returns the mean of the Gauss-Newton d2e/da_o2 over examples and positions, (O,), by node.

    What a unit of a layer's squared output error weighs in the loss: with it the errors of
    different layers and rows compare.        model : of `float64`
    """
    nodes = layers(model)
    total = {node.name: 0.0 for node in nodes}
    for start in range(0, len(x), CHUNK):
        z, outputs, _ = tapped(model, x[start:start + CHUNK], nodes)
        J = [[d.data for d in grad(z[:, k].sum(), outputs)] for k in range(z.shape[1])]
        for i, node in enumerate(nodes):
            each = np.stack([d[i].reshape(len(d[i]), -1) for d in J], axis=1)
            h = np.square(loss_factors(z.data, each, loss)).sum(axis=1)       # (P, O L)
            h = h.reshape(*outputs[i].shape[:2], -1).mean(axis=2)             # (P, O)
            total[node.name] = total[node.name] + h.sum(axis=0) / len(x)
    return total


def loss_factors(z: Array, J: Array, loss: str) -> Array:
    """Returns f_k, (P, K, n), with J' H_z J = sum_k f_k f_k' of each example.

        squared error    f_k = dz_k
        cross-entropy    f_k = sqrt(p_k) (dz_k - sum_l p_l dz_l),   p = softmax(z)

    since H_z = I, and diag(p) - p p' = sum_k p_k (e_k - p)(e_k - p)'.
    z : (P, K)        J : (P, K, n), dz/dw or dz/da of each example
    """
    if loss == "squared":
        return J
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.sqrt(p)[:, :, None] * (J - (p[:, None, :] @ J))
