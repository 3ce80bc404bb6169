"""Models and programs as ONNX files.

    report = export(model, "lenet5.onnx")                       operators on floats
    report = export(quantized, "lenet5.onnx", format="qdq")     integers, by Q / DQ pairs
    report = export(quantized, "lenet5.onnx", format="qoperator")

The input is `x`, (N, ...) float32, any N; the output `logits`. What an ONNX file cannot hold,
masks, shared values, codes of few bits, is decoded to float32 or int8, and the report says where.

On processors without VNNI onnxruntime's products of uint8 and int8 saturate at 16 bits; its session
option `session.x64quantprecision` = "1" keeps them exact.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ...atomic import write_atomically
from ...deploy import Program, lower
from ...deploy.integer import instructions
from ...errors import UserError, printable
from ...nn.graph import Model
from .floats import add_steps, held_codes
from .graph import IR_VERSION, OPSET, Graph
from .qdq import QDQ
from .qoperator import QOperator

FORMATS = ("float", "qdq", "qoperator")


@dataclass(frozen=True)
class Report:
    """What was written.

    format : one of FORMATS        opset, ir_version : of ONNX        nodes : their number
    bytes : of the file        decoded : {name of a weight: the form that it had}
    """

    format: str
    opset: int
    ir_version: int
    nodes: int
    bytes: int
    decoded: dict[str, str]

    def as_dict(self) -> dict:
        """Returns the report, JSON-able."""
        return asdict(self)


def export(model: Model | Program, path: str | Path, format: str | None = None) -> Report:
    """Writes a model or a program to `path`, atomically, as ONNX, and returns a report.

    format : one of FORMATS; None takes qdq for what has activations on grids, else float. A model
        whose weights alone lie on grids keeps their codes in qdq, and its operators are on floats.
    Equal models give equal bytes.
    Raises UserError for another format, where the package `onnx` is missing, and, by name, for what
    the format does not have: in float, activations on grids; in qdq and qoperator what `lower` to
    int8 refuses.
    """
    if format not in (None, *FORMATS):
        raise UserError(f"format must be one of {', '.join(FORMATS)}, "
                        f"got {printable(repr(format), 40)}")
    program = lower(model) if isinstance(model, Model) else model
    if format is None:
        format = "qdq" if _on_grids(program) else "float"
    graph = Graph(program.input_shape)
    try:
        last = _added(graph, program, format)
    except UserError:
        raise
    except ValueError as e:
        raise UserError(f"{format}: {e}") from None
    file = graph.encoded(last, program.out_shape)
    write_atomically(path, file)
    return Report(format, OPSET, IR_VERSION, len(graph.nodes), len(file),
                  _decoded(program, "dense" if format == "float" else "affine"))


def _on_grids(program: Program) -> bool:
    return any(step.kind == "quantize" for step in program.steps)


def _added(graph: Graph, program: Program, format: str) -> str:
    # The name of the output, all of the program added.
    coded = any("weight" in step.weights and held_codes(step.weights["weight"])
                for step in program.steps)
    if format == "float" or format == "qdq" and coded and not _on_grids(program):
        return add_steps(graph, program, codes=format == "qdq")
    writer = QDQ(graph) if format == "qdq" else QOperator(graph)
    made = program.instructions or instructions(program.steps, program.shapes())
    return writer.write(made, program.input_shape)


def _decoded(program: Program, held: str) -> dict[str, str]:
    # Weights that the file holds otherwise than the program: pruned, shared, of fewer bits.
    found = {}
    for name, form in program.forms().items():
        as_is = form.kind == held and form.mask is None and getattr(form, "bits", 8) == 8
        if name.endswith(".weight") and not as_is:
            found[name] = repr(form)
    return found
