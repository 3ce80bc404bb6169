"""A model is data: an ordered tuple of named nodes, each a layer and the names of its inputs.

`forward` only walks the list. Training, channel removal, the file and the passport all read and
write this one list; there is no other model class and no tracing.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from ..errors import FormatError, did_you_mean, dimensions, printable
from ..tensor import Array, Tensor
from .forms import Dense, Form
from .layers import LAYERS, Layer
from .layers.base import bounded, padded

INPUT = "x"  # the name by which a node refers to the model's input
MAX_NODES = 1024  # of a model: the deepest published nets have some 700 layers
MAX_INPUTS = 1000  # of a node
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,64}(@[0-9a-f]{8})?\Z")
LONGEST = 24  # row of nodes that run in one pass: blocks of convolution, batch norm, activation
MOST_SHOWN = 20  # nodes that `repr` lists


@dataclass(frozen=True)
class Node:
    """One step of a model: `layer` applied to the outputs of the nodes named in `inputs`."""

    name: str
    layer: Layer
    inputs: tuple[str, ...] = (INPUT,)

    def __repr__(self) -> str:
        read = ", ".join(printable(name, 100) for name in self.inputs[:8])
        more = f" and {len(self.inputs) - 8} more" if len(self.inputs) > 8 else ""
        return f"<Node {printable(self.name, 100)} of {read}{more}: {self.layer!r}>"


Nodes = tuple[Node, ...]


def check_label(label: str) -> str:
    """Returns the label of a data set, NAME or NAME@DIGEST; ValueError where it is none.

    NAME matches [A-Za-z0-9_.-]{1,64}; DIGEST, 8 hexadecimal digits, tells arrays of one's own apart
    """
    if not isinstance(label, str) or not _LABEL.match(label):
        raise ValueError("the label of a data set must be NAME or NAME@DIGEST, a name of "
                         "[A-Za-z0-9_.-]{1,64} and 8 hexadecimal digits, "
                         f"got {printable(label, 40)}")
    return label


def chain(*named: tuple[str, Layer], source: str = INPUT) -> tuple[Node, ...]:
    """Returns nodes in a row: each takes the output of the one before, the first that of `source`,
    a node or the input."""
    names = [source] + [name for name, _ in named]
    return tuple(Node(name, layer, (before,)) for (name, layer), before in zip(named, names))


class Model:
    """A network as a list of nodes; the output of the last is the model's.

    nodes : topologically ordered        input_shape : of one example, (C, H, W) or (D,)
    builtin : {"name", "args"} of the built-in net that this is, unedited, or None
    origin_bytes : 4 bytes x (parameters + running statistics) of the model that compression
        started from; None stands for this model
    trained_on : label of the data set on which it was last trained, `Dataset.label`, or None
    Raises ValueError for a repeated or malformed name, an input that is not an earlier node, inputs
    more or fewer than the layer takes, an input shape that is not 1 or 3 positive integers, or a
    malformed label.
    """

    def __init__(self, nodes: Iterable[Node], *, input_shape: Sequence[int],
                 builtin: dict | None = None, origin_bytes: int | None = None,
                 trained_on: str | None = None):
        self.nodes = tuple(nodes)
        self.input_shape = _positive(input_shape)
        self.builtin = builtin
        self.trained_on = None if trained_on is None else check_label(trained_on)
        _check(self.nodes)
        self._uses = _uses(self.nodes)
        self._rows = _rows(self.nodes, self._uses)
        self.origin_bytes = self.dense_bytes() if origin_bytes is None else origin_bytes

    def __repr__(self) -> str:
        name = "" if self.builtin is None else f" {printable(self.builtin['name'], 100)}"
        try:
            out = dimensions(list(self.shapes().values())[-1])
        except ValueError as e:  # layers that do not fit one another
            out = printable(e, 100)
        head = (f"<Model{name}: {dimensions(self.input_shape)} -> {out}, {len(self.nodes)} nodes, "
                f"{self.count():,} weights and biases")
        shown = [n for n in self.nodes if n.layer.forms][:MOST_SHOWN]
        rest = sum(bool(n.layer.forms) for n in self.nodes) - len(shown)
        lines = [f"  {printable(n.name, 100)}: {n.layer.kind} {next(iter(n.layer.forms.values()))}"
                 for n in shown] + ([f"  and {rest} more with weights"] if rest else [])
        return "\n".join([head, *lines]) + ">"

    def decode(self, *, training: bool = False,
               rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        """Returns every weight and bias decoded, by name: {"fc1.weight": Tensor}; and the grids.

        training : a stochastic form draws from rng; otherwise it gives its expectation
        """
        return {f"{node.name}.{part}": w for node in self.nodes
                for part, w in node.layer.decode(training=training, rng=rng).items()}

    def __call__(self, x, *, weights: dict[str, Tensor] | None = None, training: bool = False,
                 rng: np.random.Generator | None = None, taps: Sequence[str] = (),
                 n_threads: int = 1):
        """Returns the output, (N, classes) for a classifier; with taps, (output, {name: Tensor}).

        x : (N, *input_shape), array or Tensor        training : batch statistics and dropout are on
        weights : what `decode` gave; None decodes here
        rng : for dropout and stochastic forms
        taps : names of nodes whose outputs are wanted too; "x" is the input
        n_threads : of the kernels of layers that take statistics of the batch, as in `train`
        Raises ValueError for an x of another shape, KeyError for a tap that is no node.
        """
        x = x if isinstance(x, Tensor) else Tensor(x)
        if weights is None:
            weights = self.decode(training=training, rng=rng)
        if x.shape[1:] != self.input_shape:
            raise ValueError(
                f"x must have shape (N, {', '.join(map(str, self.input_shape))}), got {x.shape}"
            )
        values, uses = {INPUT: x}, dict(self._uses)
        done: set[str] = set()  # together with an earlier one
        for name in taps:
            if name not in uses:
                raise KeyError(f"no node {name!r}; there are {', '.join(uses)}")
        for node in self.nodes:
            if node.name in done:
                continue
            run, row = self._pass(node, taps)
            each = [{part: weights[f"{n.name}.{part}"] for part in (*n.layer.forms, *n.layer.grids)}
                    for n in row]
            values[row[-1].name] = run(
                *(values[i] for i in node.inputs), training=training, rng=rng, n_threads=n_threads,
                weights=each if len(row) > 1 else each[0])
            done.update(n.name for n in row[1:])
            for name in node.inputs:  # drop what no later node needs
                uses[name] -= 1
                if not uses[name] and name not in taps:
                    del values[name]
        y = values[self.nodes[-1].name] if self.nodes else x
        return (y, {name: values[name] for name in taps}) if taps else y

    def _pass(self, node: Node, taps: Sequence[str]) -> tuple[Callable[..., Tensor], Nodes]:
        # What runs next, and the nodes that it computes: as many as are known to run together,
        # unless what lies between them is wanted.
        for run, row in self._rows.get(node.name, ()):
            if not any(n.name in taps for n in row[:-1]):
                return run, row
        return node.layer, (node,)

    def node(self, name: str) -> Node:
        """Returns the node of that name; KeyError with the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r}; there are {', '.join(n.name for n in self.nodes)}")

    def forms(self) -> dict[str, Form]:
        """Returns every weight and bias by name: "fc1.weight", "fc1.bias"."""
        return {
            f"{node.name}.{part}": form
            for node in self.nodes for part, form in node.layer.forms.items()
        }

    def grids(self) -> dict[str, Tensor]:
        """Returns what layers move in training that is no weight, by name: "act1.scale"."""
        return {f"{node.name}.{part}": t
                for node in self.nodes for part, t in node.layer.grids.items()}

    def undecayed(self) -> list[str]:
        """Returns the parameters that are no weights but steps of grids: weight decay spares them.
        """
        scales = [f"{name}.{path}" for name, form in self.forms().items()
                  for path, part, _ in form._leaves() if part.role == "scale"]
        return [name for name in self.parameters() if name in {*scales, *self.grids()}]

    def set_form(self, name: str, form: Form) -> None:
        """Replaces one weight or bias, in place; errors of `set_forms`."""
        self.set_forms({name: form})

    def set_forms(self, forms: dict[str, Form]) -> None:
        """Replaces weights and biases by name, in place, in one walk over the net.

        Raises ValueError where a shape differs or a form would stand in the net twice, KeyError
        where none has the name; the model is then untouched.
        """
        mine = self.forms()
        owners: dict[int, str] = {}
        for name, form in forms.items():
            if name not in mine:
                raise KeyError(f"no form {name!r}; there are {', '.join(mine)}")
            if mine[name].shape != form.shape:
                raise ValueError(f"{name} must have shape {mine[name].shape}, got {form.shape}")
        for name, form in {**mine, **forms}.items():
            if owners.setdefault(id(form), name) != name:
                one, other = sorted((name, owners[id(form)]), key=lambda n: n not in forms)
                raise ValueError(f"{one}: this form is that of {other}; give it a copy")
        for node in self.nodes:
            for part in node.layer.forms:
                if f"{node.name}.{part}" in forms:
                    node.layer.forms[part] = forms[f"{node.name}.{part}"]

    def parameters(self) -> dict[str, Tensor]:
        """Returns what an optimizer may move, by name: "fc1.weight", "fc1.weight.centroids".

        Raises ValueError where a layer was given the form or array of another: see `Model`.
        """
        _refuse_shared(self.nodes)
        return {_join(name, part): t for name, form in self.forms().items()
                for part, t in form.parameters().items()} | self.grids()

    def project(self) -> None:
        """Puts every form, and what layers move beside, back into its set, after each optimizer
        step."""
        for form in self.forms().values():
            form.project()
        for node in self.nodes:
            node.layer.project()

    def buffers(self) -> dict[str, Array]:
        """Returns the running statistics by name: "bn1.running_mean"."""
        return {
            f"{node.name}.{part}": a
            for node in self.nodes for part, a in node.layer.buffers.items()
        }

    def state_dict(self) -> dict[str, Array]:
        """Returns every array by PyTorch's name and shape, in order of the nodes; copies.

        Forms other than an unmasked Dense add their parts: "fc1.weight.index",
        "fc1.weight.centroids.value".
        """
        return {name: a.copy() for name, a in self._state().items()}

    def _state(self) -> dict[str, Array]:
        state: dict[str, Array] = {}
        for node in self.nodes:
            for part, form in node.layer.forms.items():
                state |= {_join(f"{node.name}.{part}", p): a for p, a in form.state().items()}
            state |= {f"{node.name}.{part}": a for part, a in node.layer.buffers.items()}
        return state

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Takes over the arrays of `state`, in place, without PyTorch's num_batches_tracked.

        Raises ValueError that lists missing and unexpected names, wrong shapes and values that a
        form or a buffer cannot hold, NaN and infinity among them; the model is then untouched.
        """
        _refuse_shared(self.nodes)
        mine, state = self._state(), {n: np.asarray(a) for n, a in state.items()}
        unused = {f"{node.name}.num_batches_tracked" for node in self.nodes if node.layer.buffers}
        wrong = [f"missing {n}" for n in mine if n not in state]
        wrong += [f"unexpected {printable(n, 100)}" for n in state
                  if n not in mine and n not in unused]
        wrong += [f"{n} must have shape {a.shape}, got {state[n].shape}"
                  for n, a in mine.items() if n in state and state[n].shape != a.shape]
        wrong += [f"{n} must hold numbers, got {state[n].dtype}"
                  for n in mine if n in state and state[n].dtype.kind not in "biuf"]
        parts = {
            name: {p: state[_join(name, p)] for p in form.state()}
            for name, form in (self.forms().items() if not wrong else ())
        }
        for name, form in self.forms().items() if not wrong else ():
            try:
                form.check_state(parts[name])
            except ValueError as e:
                wrong.append(f"{name}: {e}")
        for node in self.nodes if not wrong else ():
            try:
                node.layer.check_buffers(
                    {part: state[f"{node.name}.{part}"] for part in node.layer.buffers})
            except ValueError as e:
                wrong.append(f"{node.name}.{e}")
        if wrong:
            raise ValueError("state does not fit the model: " + "; ".join(wrong))
        for name, form in self.forms().items():
            form.load_state(parts[name])
        for name, a in self.buffers().items():
            a[...] = state[name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the output shape of every node without the batch axis; "x" is the input's."""
        shapes = {INPUT: self.input_shape}
        for node in self.nodes:
            try:
                shape = node.layer.out_shape(*(shapes[i] for i in node.inputs))
                shapes[node.name] = bounded(shape)
            except ValueError as e:
                raise ValueError(f"{node.name}: {e}") from None
        return shapes

    def effective_macs(self) -> dict[str, int]:
        """Returns `macs` without the multiplications by zeros; of a dictionary's weight, those of
        its atoms and its look-ups."""
        found, shapes = self.macs(), self.shapes()
        for node in self.nodes:
            form = node.layer.forms.get("weight")
            if found[node.name] and form is not None:
                seen, made = (math.prod(shapes[n][1:]) for n in (node.inputs[0], node.name))
                found[node.name] = form.multiplications(seen, made)
        return found

    def macs(self) -> dict[str, int]:
        """Returns multiply-accumulates per example and node, without bias and activations."""
        shapes = self.shapes()
        return {
            node.name: node.layer.macs(*(shapes[i] for i in node.inputs)) for node in self.nodes
        }

    def activation_bytes(self) -> int:
        """Returns the bytes of all activations of one example as float32.

        An output each and, where a layer pads its input, that input with its padding.
        """
        shapes = self.shapes()
        total = sum(math.prod(shape) for shape in shapes.values())
        for node in self.nodes:
            if any(node.layer.padding):
                total += padded(shapes[node.inputs[0]], node.layer.padding)
        return 4 * total

    def operations(self) -> int:
        """Returns about how many operations an example takes: MACs, windows of pools, and an
        operation for each activation that a node reads or gives."""
        shapes, macs = self.shapes(), self.macs()
        return sum(
            macs[node.name] + sum(math.prod(shapes[i]) for i in node.inputs)
            + math.prod(shapes[node.name]) * math.prod(getattr(node.layer, "kernel_size", ()))
            for node in self.nodes)

    def count(self) -> int:
        """Returns the number of weights and biases."""
        return sum(math.prod(form.shape) for form in self.forms().values())

    def dense_bytes(self) -> int:
        """Returns 4 bytes x (weights + biases + running statistics)."""
        return 4 * (self.count() + sum(a.size for a in self.buffers().values()))

    def copy(self) -> Model:
        """Returns an equal model that shares no writable array; ValueError as of `parameters`."""
        _refuse_shared(self.nodes)  # a copy would untie what is one
        nodes = [replace(node, layer=node.layer.copy()) for node in self.nodes]
        return self.rebuilt(nodes, builtin=self.builtin)

    def rebuilt(self, nodes: Iterable[Node], *, builtin: dict | None = None) -> Model:
        """Returns the model of other nodes that takes the same input and came from the same net and
        data.   builtin : where they still are the built-in net's"""
        return Model(nodes, input_shape=self.input_shape, builtin=builtin,
                     origin_bytes=self.origin_bytes, trained_on=self.trained_on)

    def frozen(self) -> Model:
        """Returns an equal model none of whose forms is trainable: what is stored of them."""
        return self._with(lambda form: form.freeze())

    def thawed(self) -> Model:
        """Returns an equal model all of whose forms are trainable."""
        return self._with(lambda form: form if form.trainable else form.thaw())

    def _with(self, made) -> Model:
        model = self.copy()
        model.set_forms({name: made(form) for name, form in model.forms().items()})
        return model

    def dense(self) -> Model:
        """Returns an equal model whose every form is an unmasked Dense."""
        return self._with(lambda form: Dense(form.dense().data.copy()))

    def edit(self, swap: dict[str, tuple[Node, ...]]) -> Model:
        """Returns the model with each named node replaced by other nodes, the last of which takes
        over its output; () removes a node with one input (identity). Layers are shared."""
        renamed: dict[str, str] = {}
        nodes = []
        for name in set(swap) - {node.name for node in self.nodes}:
            self.node(name)  # which raises
        for node in self.nodes:
            inputs = tuple(renamed.get(i, i) for i in node.inputs)
            if node.name not in swap:
                nodes.append(replace(node, inputs=inputs))
            elif swap[node.name]:
                nodes.extend(
                    replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs))
                    for n in swap[node.name]
                )
                renamed[node.name] = swap[node.name][-1].name
            elif len(inputs) == 1:
                renamed[node.name] = inputs[0]
            else:
                raise ValueError(
                    f"{node.name} has {len(inputs)} inputs: it cannot become the identity"
                )
        return self.rebuilt(nodes, builtin=None if swap else self.builtin)

    def spec(self) -> dict:
        """Returns the architecture without weights, JSON-able: a built-in's name and arguments."""
        if self.builtin is not None:
            return {"builtin": self.builtin["name"], "args": self.builtin["args"]}
        return {"input": list(self.input_shape), "nodes": [
            [n.name, n.layer.kind, n.layer.config(), list(n.inputs)] for n in self.nodes]}

    @classmethod
    def from_nodes_spec(cls, spec: dict, max_bytes: int = 2**30) -> Model:
        """Returns the model of a `spec()` that lists its nodes, with weights 0.

        max_bytes : limit of the weights that it declares, checked before any is allocated
        Raises FormatError where the list is malformed or declares more.
        """
        entries, shape = spec.get("nodes"), spec.get("input")
        if not isinstance(entries, list) or not isinstance(shape, list):
            raise FormatError("architecture must have an input, a list of sizes, and nodes, a list")
        if len(entries) > MAX_NODES:
            raise FormatError(f"a model has at most {MAX_NODES} nodes, declared {len(entries)}")
        i = 0  # the node at which an error is met
        try:
            listed, declared = [], 0
            for i, entry in enumerate(entries):
                name, kind, config, inputs = _entry(entry)
                declared += 4 * kind.entries(**config)
                if declared > max_bytes:
                    raise ValueError(f"weights must take 0 to {max_bytes} bytes, declared "
                                     f"{declared} up to here")
                listed.append((name, kind, config, inputs))
            nodes = []
            for i, (name, kind, config, inputs) in enumerate(listed):
                nodes.append(Node(name, kind(**config), inputs))
        except ValueError as e:
            raise FormatError(f"architecture: node {i}: {printable(e)}") from None
        try:
            model = cls(nodes, input_shape=shape)
            model.shapes()
        except ValueError as e:
            raise FormatError(f"architecture: {printable(e)}") from None
        return model


def _entry(entry) -> tuple[str, type[Layer], dict, tuple[str, ...]]:
    # Name, class, arguments and inputs of a node, of the right types, in no other respect checked.
    if not (isinstance(entry, list) and len(entry) == 4):
        raise ValueError("a node must be a list of its name, its kind, an object and its inputs")
    name, kind, config, inputs = entry
    if not (isinstance(name, str) and isinstance(config, dict) and isinstance(inputs, list)
            and all(isinstance(i, str) for i in inputs)):
        raise ValueError("a node must be a text, a text, an object and a list of texts")
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ValueError(f"no layer of kind {printable(repr(kind), 40)}"
                         + did_you_mean(str(kind)[:40], LAYERS))
    required, known = _arguments(kind)
    if not required <= set(config) <= known:
        raise ValueError(f"{kind} takes {', '.join(sorted(known)) or 'no arguments'}, "
                         f"got {printable(', '.join(config) or 'none', 80)}")
    return name, LAYERS[kind], config, tuple(inputs)


@functools.cache
def _arguments(kind: str) -> tuple[set[str], set[str]]:
    # The names of a constructor's arguments: those that must be given, and all.
    found = inspect.signature(LAYERS[kind]).parameters.values()
    return {p.name for p in found if p.default is p.empty}, {p.name for p in found}


def _uses(nodes: tuple[Node, ...]) -> dict[str, int]:
    # How many inputs each name is.
    uses = {INPUT: 0} | {node.name: 0 for node in nodes}
    for node in nodes:
        for name in node.inputs:
            uses[name] += 1
    return uses


def _rows(nodes: Nodes, uses: dict[str, int]) -> dict[str, list[tuple[Callable, Nodes]]]:
    # By the first node's name: what computes nodes in a row in one pass, and these, longest first.
    # Of three lengths in a row one runs in one pass, or no longer row does.
    found: dict[str, list[tuple[Callable, Nodes]]] = {}
    for i, node in enumerate(nodes):
        row: Nodes = (node,)
        alone = 0
        for after in nodes[i + 1:i + LONGEST]:
            if after.inputs != (row[-1].name,) or uses[row[-1].name] != 1 or alone == 2:
                break
            row = (*row, after)
            together = node.layer.fused(*(n.layer for n in row[1:]))
            alone = alone + 1 if together is None else 0
            if together is not None:
                found.setdefault(node.name, []).insert(0, (together, row))
    return found


def _join(name: str, part: str) -> str:
    return f"{name}.{part}" if part else name


def _check(nodes: tuple[Node, ...]) -> None:
    known = {INPUT}
    if len(nodes) > MAX_NODES:
        raise ValueError(f"a model has at most {MAX_NODES} nodes, got {len(nodes)}")
    for node in nodes:
        if not isinstance(node, Node):
            raise ValueError("nodes must be Node(name, layer, inputs), as nn.chain makes them of "
                             f"(name, layer), got {printable(repr(node), 120)}")
    _refuse_shared(nodes)
    for node in nodes:
        if not (isinstance(node.name, str) and _NAME.match(node.name)) or node.name in known:
            raise ValueError("node names must be unique and match [A-Za-z0-9_.-]{1,100}, "
                             f"got {printable(repr(node.name), 120)}")
        if len(node.inputs) > MAX_INPUTS:
            raise ValueError(f"{node.name}: a node has at most {MAX_INPUTS} inputs, "
                             f"got {len(node.inputs)}")
        arity = node.layer.arity
        missing = [i for i in node.inputs if i not in known]
        if missing or not node.inputs:
            raise ValueError(
                f"{node.name}: inputs must be earlier nodes, "
                f"got {', '.join(printable(i, 40) for i in missing[:10]) or 'none'}"
            )
        if arity is not None and len(node.inputs) != arity:
            raise ValueError(
                f"{node.name}: {node.layer.kind} takes {arity} input{'s' * (arity > 1)}, "
                f"got {len(node.inputs)}"
            )
        known.add(node.name)


def _refuse_shared(nodes: tuple[Node, ...]) -> None:
    # Nothing that training moves stands in a model twice: a step would move it twice as far, and
    # whatever copies or stores the model would untie it.
    owners: dict[int, str] = {}
    for node in nodes:
        layer = node.layer
        moving = [t for form in layer.forms.values() for t in form.parameters().values()]
        for part in (layer, *layer.forms.values(), *moving, *layer.buffers.values()):
            if id(part) in owners:
                raise ValueError(
                    f"{node.name}: its {getattr(part, 'kind', 'array')} is that of "
                    f"{owners[id(part)]} too; a layer, form or array stands in a model once, give "
                    f"{node.name} a copy"
                )
            owners[id(part)] = node.name


def _positive(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(shape)
    if len(shape) not in (1, 3) or not all(
            isinstance(n, Integral) and not isinstance(n, bool) and n >= 1 for n in shape):
        raise ValueError(
            "input_shape must be positive integers, (D,) or (C, H, W), "
            f"got {printable(shape, 80)}"
        )
    return bounded(tuple(int(n) for n in shape))
