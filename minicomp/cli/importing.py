"""`minicomp import`: a .mcz file of a net that another framework trained and wrote as ONNX."""

from __future__ import annotations

from pathlib import Path

from ..codec import save
from ..errors import UserError, dimensions, printable
from ..models import normalization
from ..nn.graph import Model
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp import net.onnx
minicomp import net.onnx --out net.mcz --normalize mnist
minicomp import mlp.onnx --input 1x28x28
"""


def add_parsers(commands) -> None:
    """Adds the command `import`."""
    p = options.command(
        commands, "import", run, help="turn an ONNX file into a .mcz file",
        description="Read a net that another framework wrote as ONNX, and write it as a .mcz file: "
        "its layers, weights, and, of a quantized graph, its codes and grids. What it leaves out, "
        "such as the softmax behind the logits, is said; an operator that is not read is named.",
        examples=EXAMPLES)
    p.add_argument("file", metavar="F.onnx", help="the file to read")
    p.add_argument("--out", metavar="M.mcz", help="the file to write (default F.mcz)")
    p.add_argument("--input", metavar="CxHxW", help="the shape in which examples come, where the "
                   "graph takes as many numbers in a row: 1x28x28")
    opening.add_normalize(p)
    options.add_json(p)
    options.files(p, reads=("file",), writes=("out",))
    p.set_defaults(structure=None)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = opening.existing(args.file)
    if path.suffix != ".onnx":
        raise UserError(f"{printable(path)}: the file to import must end in .onnx")
    out = Path(args.out or f"{path.stem}.mcz")
    if out.suffix != ".mcz":
        raise UserError(f"--out must end in .mcz, got {out}")
    options.check_files(args, out=out)
    notes: list[str] = []
    model = opening.opened(args.file, args, say=notes.append, shape=_shape(args.input))
    size, shapes = save(model, out), model.shapes()
    for note in notes:
        Screen().say(note)
    print_table(str(out), ["node", "layer", "reads", "output", "stored as"],
                [[n.name, n.layer.kind, ", ".join(n.inputs), dimensions(shapes[n.name]),
                  _stored(n.layer)] for n in model.nodes],
                footer=f"{model.count():,} weights and biases, {size:,} bytes; {path} has "
                       f"{path.stat().st_size:,}; input {dimensions(model.input_shape)}, "
                       f"normalised {opening.described(normalization(model))}")
    options.write_json(args.json, summary(model, out, path, notes))
    return 0


def summary(model: Model, out: Path, path: Path, notes: list[str]) -> dict:
    """Returns what the command's JSON says."""
    shapes = model.shapes()
    return {
        "file": str(out), "file_bytes": out.stat().st_size, "onnx_file": str(path),
        "onnx_bytes": path.stat().st_size, "input": list(model.input_shape), "notes": notes,
        "nodes": [{"name": n.name, "layer": n.layer.kind, "inputs": list(n.inputs),
                   "shape": list(shapes[n.name])} for n in model.nodes]}


def _stored(layer) -> str:
    # What the weight is, and how exact: of codes their bits and grid.
    form = layer.forms.get("weight")
    return "" if form is None else " ".join([form.kind, *form.in_words()])


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) not in (1, 3) or not all(p.isdecimal() and 0 < len(p) < 8 for p in parts) or (
            0 in map(int, parts)):
        raise UserError(f"--input must be CxHxW, got {printable(repr(text), 40)}")
    return tuple(map(int, parts))
