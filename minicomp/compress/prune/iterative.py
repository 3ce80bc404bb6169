"""Iterative pruning with retraining (Han et al. 2015, arXiv 1506.02626, sections 3.1-3.4).

Pruning to the final sparsity at once loses more than pruning a little and letting survivors learn:

    repeat rounds times:  prune the smallest weights  ->  retrain what is left

The survivors keep their values (no new initial weights, section 3.3), and dropout shrinks with the
square root of the kept connections, D_r = D_o sqrt(C_r / C_o) (eq. 2). The learning rate of
retraining, in the paper a tenth of the original (section 3.2), is the training's knob `lr`; with
`alternate` convolutions and fully connected layers are retrained in turn (section 3.3), not, as is
the default, together.

Where we leave the paper: the paper picks each round's threshold by hand; here the kept fraction
falls geometrically, keep_r = (1 - sparsity)^(r / rounds), so that a round removes the same share of
what is left as every other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...train import evaluate
from ..finetune import Rounds
from ..scores import magnitude_mask
from ..technique import check_maskable, knob, masked, sparsity, weights


@dataclass(frozen=True)
class Iterative(Rounds):
    """Rounds of magnitude pruning, each followed by retraining for `epochs`."""

    word: ClassVar[str] = "iterative"
    title: ClassVar[str] = "Iterative pruning with retraining"
    source: ClassVar[str] = (
        "Han, Pool, Tran & Dally 2015, Learning both Weights and Connections for Efficient "
        "Neural Networks, arXiv:1506.02626"
    )

    sparsity: float = knob(0.9, "final fraction of zeros of a layer",
                           lo=0, hi=1, below=True, per_layer=True)
    rounds: int = knob(5, "times that pruning and retraining are repeated", lo=1)
    alternate: bool = knob(
        False, "retrain convolutions and fully connected layers in turn, the others frozen"
    )

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model)

    def change(self, model, data, run):
        model = model.thawed()
        for r in range(1, self.rounds + 1):
            for turn, nodes in enumerate(self.turns(model)):
                model = self.pruned(model, r / self.rounds, nodes).thawed()
                for name, form in model.forms().items():
                    if name.rsplit(".", 1)[0] not in nodes:
                        model.set_form(name, form.freeze())
                self.train.fit(model, data, run.child(f"round-{r}-{turn}"))
            run.log({"event": "round", "round": r, "rounds": self.rounds,
                     "sparsity": sparsity(model),
                     "errors": evaluate(model, data.val, n_threads=run.n_threads).errors})
        return model.frozen()

    def turns(self, model) -> list[list[str]]:
        """Returns the groups of nodes that are pruned and retrained together."""
        nodes = [n.name for n in model.nodes if n.layer.forms]
        if not self.alternate:
            return [nodes]
        conv = [n for n, name in weights(model).items() if len(model.forms()[name].shape) > 2]
        return [group for group in (conv, [n for n in nodes if n not in conv]) if group]

    def pruned(self, model, part: float, nodes: list[str]):
        """Returns the model with the weights of `nodes` at keep = (1 - sparsity)^part."""
        masks = {}
        for node, name in weights(model).items():
            if node in nodes:
                s, form = self.at("sparsity", node), model.forms()[name]
                # s itself at the end: round(s n) is exact.
                s = s if part == 1 else 1 - (1 - s) ** part
                masks[name] = magnitude_mask(form.dense().data, s, mask=form.mask)
        return masked(model, masks)

    def sketch(self, model, *, rng):
        return self.pruned(model, 1.0, [n.name for n in model.nodes])
