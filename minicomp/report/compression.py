"""The page of one compression: its cost in bytes, error and milliseconds, and where bytes went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..codec.accounting import summed, times
from ..nn.forms import Codebook
from ..nn.graph import Model
from ..passport import Passport, dense_parts, stored_parts
from ..tensor import no_grad
from . import pictures, plots
from .html import Notes, Page, Picture, Table, write
from .palette import PART_NAMES, kilobytes

Array = np.ndarray
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True, eq=False)
class Compression:
    """What a compression left, for its page.

    result : model, data, recipe, seed, threads, steps, as in the command's JSON; steps have name,
        knobs, errors, size, sparsity, units_removed, macs, left, seconds
    before, after : passports of the model before, which need not be dense, and of the file
    dense, model : the models themselves        stages : (name, model) after each step
    epochs : rows of train.fit, each with the stage it belongs to
    scan : ({layer: (sparsities, errors)}, error of the whole net, validation images counted), the
        first two fractions, as `jobs.sensitivity.Scan` gives them
    note : one line on the data        command : what gives this page again
    """

    result: Mapping
    before: Passport
    after: Passport
    dense: Model
    model: Model
    stages: Sequence[tuple[str, Model]] = ()
    epochs: Sequence[Mapping] = ()
    scan: tuple[Curves, float, int] | None = None
    note: str = ""
    command: str = ""


def write_report(path: str | Path, c: Compression) -> int:
    """Writes the page of a compression to `path`, and returns its bytes."""
    return write(compression_page(c), path)


def compression_page(c: Compression) -> Page:
    """Returns the page of a compression; its figures are Matplotlib's."""
    plain = all(f.kind == "dense" and f.mask is None for f in c.dense.forms().values())
    first = ("dense", dense_parts(c.dense)) if plain else ("as given", stored_parts(c.dense))
    parts = [first, *((name, stored_parts(m)) for name, m in c.stages)]
    blocks: list = [c.note] if c.note else []
    if len(parts) > 1:
        blocks.append(bytes_by_stage(parts))
    blocks.append(
        bytes_by_layer(
            {r.name: r.bytes for r in c.after.layers} | {"": {"header": c.after.rest}},
            {name: sum(p.values()) for name, p in dense_parts(c.dense).items()},
        )
    )
    if c.scan:
        blocks.append(sensitivity(*c.scan))
    earlier = [c.dense, *(m for _, m in c.stages)]
    blocks += [p for p in (weights(c.model, earlier), filters(c.dense, c.model)) if p]
    if c.epochs:
        blocks.append(training(c.epochs))
    blocks += [p for p in [bytes_and_macs(c.before)] if p]
    if c.result.get("steps"):
        blocks += _steps(c.result["steps"])
    blocks += [
        _passport("Passport of the file, errors of the test set", c.after),
        _passport("Passport of the net before, errors of the test set", c.before),
    ]
    told = ("data", "recipe", "seed", "threads")
    foot = [f"{key} {c.result[key]}" for key in told if key in c.result]
    foot += [c.command] if c.command else []
    return Page(
        f"{c.result['model']}, compressed {times(c.after.ratio)} times",
        f"From {c.after.dense_bytes:,} bytes of dense float32 to one file of "
        f"{c.after.file_bytes:,} bytes. "
        "Every number here is read from a file or a clock, or counts answers.",
        _facts(c.before, c.after),
        blocks,
        "; ".join(foot),
    )


def bytes_by_stage(parts: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]]) -> Picture:
    """Returns the waterfall of bytes by stage, above what they are.

    parts : (stage, {layer: {part: bytes}}), the dense model first
    """
    stages = [(name, summed(layers.values())) for name, layers in parts]
    totals = [(name, sum(p.values())) for name, p in stages]
    rows = 0.34 * len(stages)
    upper, lower = plots.panels(2, (5.2, 2.2 + 2 * rows), [rows + 0.1, rows])
    plots.plot_waterfall(totals, ax=upper)
    plots.plot_composition(stages, ax=lower)
    said = [f"{name} {kilobytes(n)}" for name, n in totals]
    last = ", ".join(
        f"{PART_NAMES[p]} {100 * n / totals[-1][1]:.0f} %" for p, n in stages[-1][1].items() if n
    )
    return Picture(
        "Where the bytes went, stage by stage",
        upper.figure,
        f"Bytes after each stage: {', '.join(said)}; in all "
        f"{times(totals[0][1] / totals[-1][1])} times smaller. Of the last stage's bytes: {last}.",
        "Above: bytes of the model after each stage, on a logarithmic axis, so that equal lengths "
        "are equal factors. Each stage after the first is the size of the file it would be saved "
        "as. Below: what those bytes are.",
    )


def bytes_by_layer(
    layers: Mapping[str, Mapping[str, float]], dense: Mapping[str, float]
) -> Picture:
    """Returns the bytes of each layer by part; "" holds what belongs to no layer.

    layers : {layer: {part: bytes}}        dense : {layer: bytes} as float32
    """
    said = [
        f"{name or 'rest of the file'} {kilobytes(sum(p.values()))}" for name, p in layers.items()
    ]
    ax = plots.plot_layer_bytes(layers, dense)
    return Picture(
        "Bytes by layer",
        ax.figure,
        f"Bytes of each layer in the file: {', '.join(said)}.",
        "Every byte of the file: the kept values or their codes, the indices that say where they "
        "stand, codebooks, Huffman tables, biases and the header.",
    )


def sensitivity(curves: Curves, baseline: float, size: int) -> Picture:
    """Returns the error against the sparsity of each layer pruned alone; fractions.

    size : of the validation images on which errors were counted
    """
    examples = f"{size:,} validation images"
    ax = plots.plot_sensitivity(curves, baseline, examples=examples)
    said = [
        f"{name} from {100 * min(e):.2f} to {100 * max(e):.1f} % at sparsity {s[np.argmax(e)]:g}"
        for name, (s, e) in curves.items()
    ]
    return Picture(
        "How much pruning each layer bears",
        ax.figure,
        f"Error on {examples} when one layer alone is pruned, the whole net "
        f"{100 * baseline:.2f} %: {'; '.join(said)}.",
        "Each line prunes one layer by magnitude, without retraining, and leaves the others as "
        "they were; where it begins further right, that layer was as sparse before.",
    )


def weights(model: Model, earlier: Sequence[Model]) -> Picture | None:
    """Returns the histogram of the largest shared layer's weights, and the centroids chosen for
    them: as they were chosen, and below as they are now.

    earlier : models before, oldest first
    None where no layer of the model is a codebook, or none became one on the way.
    """
    books = {n: f for n, f in model.forms().items() if isinstance(f, Codebook) and len(f.shape) > 1}
    if not books:
        return None
    name = max(books, key=lambda n: books[n].index.size)
    line = [m.forms()[name] for m in (*earlier, model) if name in m.forms()]
    shared = [i for i in range(1, len(line)) if _shares(line[i - 1], line[i])]
    if not shared or not len(_centroids(books[name])[0]):
        return None
    w, chosen, now = _dense(line[shared[-1] - 1]), line[shared[-1]], books[name]
    rows = [(f"{len(_centroids(chosen)[0])} centroids as chosen", *_centroids(chosen))]
    if not np.array_equal(rows[0][1], _centroids(now)[0]):
        rows.append(("after training", *_centroids(now)))
    ax = pictures.plot_weights(w, rows)
    c, empty = rows[0][1], int((rows[-1][2] == 0).sum())
    none = f" {empty} of them stand{'s' if empty == 1 else ''} for no weight." if empty else ""
    moved = ""
    if len(rows) > 1 and len(c) == len(rows[1][1]):
        moved = f" Training moved them by {np.abs(c - rows[1][1]).mean():.4f} on average."
    hollow = " A hollow one stands for no weight, and costs its place in the codebook." * bool(none)
    trained = ("Training then moves the centroids (lower row) and leaves to each its weights."
               if len(rows) > 1 else "")
    return Picture(
        f"Weights of {name.rsplit('.', 1)[0]}, and the centroids that stand for them",
        ax.figure,
        f"Histogram of the {np.count_nonzero(w):,} weights of {name} that are not 0, of "
        f"{w.size:,}; they lie between {w.min():.3f} and {w.max():.3f}. {len(c)} centroids from "
        f"{c.min():.3f} to {c.max():.3f}.{none}{moved}",
        "The weights as they were when they were shared: each is replaced by the nearest of the "
        f"centroids of the {'upper row' if len(rows) > 1 else 'row'}, and only the centroid's "
        f"number is stored.{hollow} {trained}".strip(),
    )


def _shares(before, after) -> bool:
    # Whether a step gave the weights their codes: not one that only pruned shared weights.
    if not isinstance(after, Codebook):
        return False
    if not isinstance(before, Codebook):
        return True
    other = before.shape == after.shape and after.index != before.index
    return bool(np.any(other & (after.index != 0)))


def _centroids(form) -> tuple[Array, Array]:
    # The centroids of a codebook but a pinned 0, and how many weights each stands for.
    c = _dense(form.centroids)
    members = np.bincount(form.index.ravel(), minlength=len(c))
    first = int(form.pinned_zero)
    return c[first:], members[first:]


def filters(dense: Model, model: Model) -> Picture | None:
    """Returns the first layer's filters before and after; None where they are no pictures."""
    name = next(
        (n for n, f in dense.forms().items() if n.endswith(".weight") and len(f.shape) > 1), None
    )
    if (
        name is None
        or name not in model.forms()
        or model.forms()[name].shape != dense.forms()[name].shape
    ):
        return None
    before, after = _dense(dense.forms()[name]), _dense(model.forms()[name])
    if before.ndim == 2 and round(before.shape[1] ** 0.5) ** 2 != before.shape[1]:
        return None
    ax = pictures.plot_filters(before, after)
    return Picture(
        f"Filters of {name.rsplit('.', 1)[0]} before and after",
        ax.figure,
        f"The first {min(20, len(before))} filters of {name}, before and after. Before, "
        f"{np.count_nonzero(before == 0):,} of {before.size:,} weights are 0; after, "
        f"{np.count_nonzero(after == 0):,}, of {len(np.unique(after))} different values.",
        "Orange is below 0, purple above, black exactly 0. Both halves share one scale.",
    )


def training(epochs: Sequence[Mapping]) -> Picture:
    """Returns validation error and training loss over the epochs of all stages."""
    upper, lower = plots.panels(2, (5.2, 5.0))
    pictures.plot_training(epochs, ax=upper)
    pictures.plot_training(epochs, ax=lower, quantity="loss", labels=False)
    upper.set_xlabel("")
    upper.tick_params(labelbottom=False)
    first, last = epochs[0], epochs[-1]
    return Picture(
        "Training",
        upper.figure,
        f"{len(epochs)} epochs. Validation errors go from {first['val_errors']:,} to "
        f"{last['val_errors']:,} of {last['val_size']:,}, the training loss from "
        f"{first['loss']:.4f} to {last['loss']:.4f}.",
        "Above: error on validation data. Below: loss on training data. One colour a stage.",
    )


def bytes_and_macs(before: Passport) -> Picture | None:
    """Returns each layer's share of the dense bytes beside its share of the MACs.

    None where they are the same to a twentieth, as in a net of Linear layers only.
    """
    rows = [r for r in before.layers if r.macs]
    sizes = np.array([sum(r.bytes.values()) for r in rows])
    macs = np.array([r.macs for r in rows])
    shares = [100 * v / max(v.sum(), 1) for v in (sizes, macs)]
    if not rows or np.abs(shares[0] - shares[1]).max() < 5:
        return None
    ax = plots.plot_bytes_and_macs([r.name for r in rows], sizes, macs)
    said = [
        f"{r.name} {b:.1f} % of the bytes, {m:.1f} % of the MACs" for r, b, m in zip(rows, *shares)
    ]
    return Picture(
        "Bytes are in one place, work in another",
        ax.figure,
        f"Of the dense model: {'; '.join(said)}.",
        "Shares of the dense model. MACs are multiply-accumulates for one image.",
    )


def _facts(before: Passport, after: Passport) -> list[tuple[str, str, str]]:
    facts = [("smaller", f"{times(after.ratio)}x",
              f"{after.file_bytes:,} of {after.dense_bytes:,} bytes")]
    if after.errors is not None:
        was = "" if before.errors is None else (
            f"; before {100 * before.error:.2f} % ({before.errors:,})")
        facts.append(("test error", f"{100 * after.error:.2f} %",
                      f"{after.errors:,} of {after.size:,} test images{was}"))
    facts.append(("numbers left", f"{100 * after.left:.1f} %",
                  f"{after.numbers:,} of the original's {after.original_numbers:,} are there and "
                  "not 0"))
    if after.units < before.units or after.macs < before.macs:
        facts.append(("units removed", f"{before.units - after.units:,} of {before.units:,}",
                      f"MACs {before.macs:,} before, {after.macs:,} now"))
    if after.ms is not None:
        facts.append(("an image", f"{after.ms:.3g} ms",
                      f"as dense float32 {after.ms_dense:.3g} ms, one thread"))
    return facts


def _steps(steps: Sequence[Mapping]) -> list[Table | Notes]:
    size, cut = steps[0]["size"], any(s.get("units_removed") for s in steps)
    headers = ["step", f"errors of {size:,} validation images", "sparsity",
               *(["units removed", "MACs"] if cut else []), "numbers left, %", "seconds"]
    rows = [
        [
            s["name"],
            s["errors"],
            round(float(s["sparsity"]), 4),
            *([s["units_removed"], s["macs"]] if cut else []),
            round(100 * s["left"], 2),
            float(f"{s['seconds']:.2g}"),
        ]
        for s in steps
    ]
    knobs = [(s["name"], ", ".join(f"{k} = {_knob(v)}" for k, v in s["knobs"].items()))
             for s in steps]
    return [
        Table(
            "Steps",
            headers,
            rows,
            "Knobs are picked on validation data; the test set is read once, at the end. Sparsity "
            "is the fraction of zeros among the weights that are there, biases not counted; "
            "numbers left are what is there and not 0, biases too, of the original's.",
        ),
        Notes("Knobs of the steps", [(name, text) for name, text in knobs if text]),
    ]


def _passport(title: str, p: Passport) -> Table:
    return Table(title, p.headers(), p.rows(), p.summary() + ".", last=True)


def _knob(v) -> str:
    if isinstance(v, Mapping):
        return "{" + ", ".join(f"{k}: {_knob(x)}" for k, x in v.items()) + "}"
    return f"{v:g}" if isinstance(v, float) else str(v)


def _dense(form) -> Array:
    with no_grad():
        return form.dense().data
