"""DARTS (Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", ICLR, arXiv
1806.09055).

Instead of one operation o of O at each place (i, j), all of them run, weighed by a softmax over
numbers alpha that descend the validation loss while the weights w descend the training loss:

    o_mixed(x) = sum_o softmax(alpha)_o o(x)                                                    (2)
    min_alpha L_val(w*(alpha), alpha)                                                           (3)
    such that w*(alpha) = argmin_w L_train(w, alpha)                                            (4)

w* is too dear; one step of training stands for it:

    d/d alpha L_val(w - xi d/dw L_train(w, alpha), alpha)                                       (6)
      = d/d alpha L_val(w', alpha) - xi d2/d(alpha)dw L_train(w, alpha) d/dw' L_val(w', alpha)  (7)

xi = 0 is "first order": alpha moves as if w were the best there is. With xi the rate of w it is
"second order". The paper takes the product in (7) by finite differences of two gradients (8); here
a gradient is itself differentiable, so (6) is written down and differentiated, exactly.

At the end each place keeps its operation of the largest alpha; under a limit it is the net of the
largest product of softmax(alpha) among those that keep it, which without one is the same. Left out
are the paper's cells of many inputs, its operation "zero", which it never keeps, and its batch
norms. As there, half of the training images train w, the other half alpha, and the net that was
found is trained anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..compress.technique import Log, silent
from ..errors import UserError
from ..kernels.threads import blas
from ..nn.graph import Model, Node
from ..nn.losses import cross_entropy
from ..optim import SGD, Adam, cosine
from ..tensor import Array, Tensor, grad
from .space import Choice, Space

Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def mixture(outputs: Sequence, alpha):
    """Returns sum_o softmax(alpha)_o outputs[o], of arrays or Tensors of one shape.

    outputs : O of them        alpha : (O,)        Source: Liu et al. 2019, eq. (2)
    """
    p = ops.softmax(alpha)
    return sum((out * p[i] for i, out in enumerate(outputs[1:], start=1)), outputs[0] * p[0])


def mixture_gradient(g: Array, outputs: Array, alpha: Array) -> Array:
    """Returns dL / d alpha, (O,), of a mixed operation: softmax(alpha)_o (g.o - g.o_mixed).

    g : dL / d o_mixed        outputs : (O, *g.shape)        alpha : (O,)
    """
    p = ops.softmax(alpha)
    along = (outputs * g).reshape(len(p), -1).sum(axis=1)
    return p * (along - p @ along)


def architecture_gradient(train_loss: Loss, val_loss: Loss, weights: Sequence[Tensor],
                          alphas: Sequence[Tensor], *, xi: float) -> list[Array]:
    """Returns d/d alpha L_val(w - xi d/dw L_train(w, alpha), alpha), an array for each alpha.

    train_loss, val_loss : loss(weights, alphas) -> one-element Tensor
    weights, alphas : Tensors that require grad        xi : >= 0; 0 is first order
    Source: Liu et al. 2019, eq. (6)
    """
    if xi:
        g = grad(train_loss(weights, alphas), weights, create_graph=True)
        weights = [w - dw * xi for w, dw in zip(weights, g)]  # w'
    return [a.data for a in grad(val_loss(weights, alphas), alphas)]


def likeliest(alphas: Sequence[Array], codes: Array) -> int:
    """Returns which row of codes has the largest product of softmax(alpha), the first of equals.

    alphas : a (O,) for each of P places        codes : (N, P) integers, an operation a place
    """
    logs = [ops.log_softmax(np.asarray(a, np.float64)) for a in alphas]
    return int(np.argmax(sum(log[codes[:, i]] for i, log in enumerate(logs))))


def discretise(space: Space, alphas: Mapping[str, Array]) -> Choice:
    """Returns the net under the limit with the largest product of softmax(alpha); without a limit
    each place's operation of the largest alpha.

    alphas : name of a choice -> (O,), a number for each of its values
    Raises UserError where no net keeps the limit.
    """
    codes = np.array([space.encode(choice) for choice in space])
    if not len(codes):
        raise UserError(f"the limit must admit a net of the space, got {space.limit}")
    return space.decode(tuple(codes[likeliest([alphas[name] for name in space.choices], codes)]))


@dataclass(frozen=True)
class Mixture:
    """A net in which operations are mixed: a stem, places in a row, a head.

    places : name -> operation's name -> its net; all nets of a place have one output shape
    """

    stem: Model
    places: Mapping[str, Mapping[str, Model]]
    head: Model

    def parts(self) -> dict[str, Model]:
        """Returns every net by name: "stem", "op1.conv3", "head"."""
        inner = {f"{place}.{op}": net for place, nets in self.places.items()
                 for op, net in nets.items()}
        return {"stem": self.stem, **inner, "head": self.head}

    def parameters(self) -> dict[str, Tensor]:
        """Returns the weights w by name: "op1.conv3.conv.weight"."""
        return {f"{part}.{name}": w for part, net in self.parts().items()
                for name, w in net.parameters().items()}

    def alphas(self) -> dict[str, Tensor]:
        """Returns alpha of each place, all operations alike."""
        return {place: Tensor(np.zeros(len(nets), np.float32), requires_grad=True)
                for place, nets in self.places.items()}

    def macs(self) -> int:
        """Returns multiply-accumulates an image: all operations run."""
        return sum(sum(net.macs().values()) for net in self.parts().values())

    def __call__(self, x, weights: Mapping[str, Tensor], alphas: Mapping[str, Tensor]) -> Tensor:
        """Returns logits (N, classes); weights and alphas by name, as above."""
        def run(part: str, net: Model, x) -> Tensor:
            return net(x, weights={n: weights[f"{part}.{n}"] for n in net.forms()}, training=True)

        x = run("stem", self.stem, x)
        for place, nets in self.places.items():
            x = mixture([run(f"{place}.{op}", net, x) for op, net in nets.items()], alphas[place])
        return run("head", self.head, x)

    def chosen(self, choice: Choice) -> Model:
        """Returns the net of one operation a place, with copies of the weights that it has here."""
        nodes: list[Node] = []
        for part, net in [("stem", self.stem),
                          *((place, nets[choice[place]]) for place, nets in self.places.items()),
                          ("head", self.head)]:
            last = nodes[-1].name if nodes else "x"
            for node in net.copy().nodes:  # its first reads what the part before gives
                inputs = (last,) if node.inputs == ("x",) else tuple(
                    f"{part}.{name}" for name in node.inputs)
                nodes.append(Node(f"{part}.{node.name}", node.layer, inputs))
        return Model(nodes, input_shape=self.stem.input_shape)


@dataclass(frozen=True)
class Found:
    """What DARTS found: the net, alpha of each place, and images that passed the mixture, forward
    and backward, for which a pass through the twice differentiated step counts as two more."""

    choice: Choice
    alphas: dict[str, Array]
    passes: int


def darts(space: Space, mixed: Mixture, data, *, epochs: int = 1, batch_size: int = 64,
          lr: float = 0.025, alpha_lr: float = 0.003, order: int = 2, rng: np.random.Generator,
          log: Log = silent) -> Found:
    """Returns the net that alpha names after training the mixture, in place.

    space : the nets that alpha can name, under a limit or none; its choices are the places
    data : has `train`, a half of which trains w and the other alpha (section 3)
    lr, alpha_lr : of SGD with momentum 0.9 on w, cosine; of Adam (0.5, 0.999) on alpha, as there
    order : 1, or 2, in which xi is the rate of w
    Raises UserError for another order, and for choices that are not the places.
    """
    if order not in (1, 2):
        raise UserError(f"order must be 1 or 2, got {order}")
    places = {place: tuple(nets) for place, nets in mixed.places.items()}
    if places != dict(space.choices):
        raise UserError(f"the choices of the space must be the places, {places}, "
                        f"got {dict(space.choices)}")
    w, a = mixed.parameters(), mixed.alphas()
    move_w = SGD(w, lr=lr, momentum=0.9, weight_decay=3e-4)
    move_a = Adam(a, lr=alpha_lr, betas=(0.5, 0.999), weight_decay=1e-3)

    def loss_on(rows: Array) -> Loss:
        x, y = data.train.x[rows], data.train.y[rows]
        return lambda ws, alphas: cross_entropy(mixed(x, dict(zip(w, ws)), dict(zip(a, alphas))), y)

    halves = np.array_split(rng.permutation(len(data.train)), 2)
    per_epoch = len(halves[0]) // batch_size
    if not per_epoch or epochs < 1:
        raise UserError(f"epochs must be at least 1 and batch_size at most {len(halves[0])}, half "
                        f"of the training images, got {epochs} and {batch_size}")
    rate, steps = cosine(), epochs * per_epoch
    with blas(1):
        for step in range(steps):
            if step % per_epoch == 0:
                train, val = (rng.permutation(half)[:per_epoch * batch_size].reshape(
                    per_epoch, batch_size) for half in halves)
            move_w.lr = lr * rate(step / steps)
            L_train, L_val = loss_on(train[step % per_epoch]), loss_on(val[step % per_epoch])
            ws, alphas = list(w.values()), list(a.values())
            g = architecture_gradient(L_train, L_val, ws, alphas,
                                      xi=move_w.lr if order == 2 else 0.0)
            move_a.step(dict(zip(a, g)))
            loss = L_train(ws, alphas)
            move_w.step({name: d.data for name, d in zip(w, grad(loss, ws))})
            log({"event": "progress", "name": "darts", "done": step + 1, "total": steps})
    found = {place: alpha.data.copy() for place, alpha in a.items()}
    choice = discretise(space, found)
    log({"event": "darts", "choice": choice, "loss": loss.item(),
         "alphas": {place: alpha.tolist() for place, alpha in found.items()}})
    return Found(choice, found, steps * batch_size * (4 if order == 2 else 2))
