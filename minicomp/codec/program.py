"""The .mcz file of a program: its steps as a header, and a section for each canonical form.

    {"precision": "float", "input": [1, 28, 28], "origin": 1724320, "data": "mnist",
     "steps": [[name, kind, arguments that are not defaults, inputs], ...]}

of precision int8 also "rounding" and "zero_first", each where it is not the default.

Which weights a step has, and of what shapes, follows from its kind, its arguments and the shapes of
its inputs. Forms are written as a model's are (codec/forms.py). Nothing of batch, rung or machine
is in the file: packing happens in `plan`. "origin" is left out where it is 4 bytes a weight, "data"
where the training set is not known.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..deploy import Program, Step
from ..deploy.program import check_precision, check_rule
from ..deploy.steps import activation_bytes, shapes_of
from ..errors import FormatError, printable
from ..kernels.int8.requantize import ROUNDINGS
from ..nn.layers.base import MAX_SIZE
from .accounting import Shown, check_origin, most_origin
from .bits import Budget
from .envelope import Opened, seal
from .header import label_in, read_header, whole, write_header
from .sections import Force, read_sections, write_sections

NEEDED = {"precision", "input", "steps"}
KEYS = NEEDED | {"origin", "data", "rounding", "zero_first"}


def encode(program: Program, *, force: Force = None) -> bytes:
    """Returns the bytes of the program's file; arguments and errors of `files.save`."""
    header = {"precision": program.precision, "input": program.input_shape}
    if program.rounding != ROUNDINGS[0]:
        header["rounding"] = program.rounding
    if program.zero_first:
        header["zero_first"] = True
    if program.origin_bytes != 4 * program.count():
        check_origin(program.origin_bytes, 4 * program.count())
        header["origin"] = program.origin_bytes
    if program.trained_on is not None:
        header["data"] = program.trained_on
    header["steps"] = [[s.name, s.kind, s.given(), s.inputs] for s in program.steps]
    sections = write_sections(program.forms(), force)
    return seal("program", write_header(header, "program"), sections)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the program in the bytes of a file, and where they went; errors of `files.load`."""
    budget = Budget(max_bytes)
    budget.hold(len(data))
    opened = Opened(data, "program")
    header = read_header(opened.header, opened.dictionary, "program", max_bytes)
    try:
        shape, steps, parts = _declared(header, budget)
        trained_on = label_in(header)
    except FormatError:
        raise
    except ValueError as e:
        raise FormatError(f"steps: {printable(e)}") from None
    origin = header.get("origin")
    if origin is not None:
        numbers = sum(map(math.prod, parts.values()))
        origin = whole("origin", origin, 4, most_origin(4 * numbers))
    rows, forms = read_sections(opened, parts, budget)
    opened.finish()
    try:
        steps = [replace(step, weights={name.rsplit(".", 1)[1]: forms[name] for name in names})
                 for step, names in steps]
        program = Program(steps, input_shape=shape, precision=header["precision"],
                          origin_bytes=origin, trained_on=trained_on, **_rule(header))
    except ValueError as e:
        raise FormatError(printable(e)) from None
    spent = len(opened.header) + sum(row.bytes for row in rows)
    rest = {"architecture": len(opened.header), "envelope": len(data) - int(spent)}
    return Shown(len(data), program.origin_bytes, rows, 0, rest, program)


def _rule(header: dict) -> dict:
    return {"rounding": header.get("rounding", ROUNDINGS[0]),
            "zero_first": header.get("zero_first", False)}


def _declared(header: dict, budget: Budget):
    # The input's shape, the steps that a header lists, each with the names of its weights, and the
    # shapes of these; FormatError or ValueError where they are none, or take more than there is.
    if not NEEDED <= set(header) <= KEYS:
        raise FormatError(f"a header holds {', '.join(sorted(KEYS))}, "
                          f"got {printable(', '.join(header), 80)}")
    sizes, listed = header["input"], header["steps"]
    if not (isinstance(sizes, list) and isinstance(listed, list)):
        raise FormatError("input must be a list of sizes, steps a list")
    if len(sizes) not in (1, 3):
        raise FormatError(f"input must be (D,) or (C, H, W), got {len(sizes)} sizes")
    shape = tuple(whole("input", n, 1, MAX_SIZE) for n in sizes)
    check_precision(header["precision"])
    check_rule(header["precision"], **_rule(header))
    steps = []
    for step in listed:
        if not (isinstance(step, list) and len(step) == 4 and isinstance(step[2], dict)
                and isinstance(step[3], list)):
            raise FormatError("a step is a name, a kind, an object and a list")
        name, kind, args, inputs = step
        steps.append(Step(name, kind, tuple(inputs), args))
    shapes, parts, named = shapes_of(steps, shape), {}, []
    for step in steps:
        wanted = {f"{step.name}.{part}": size for part, size in step.parts(shapes).items()}
        named.append((step, list(wanted)))
        parts |= wanted
    budget.hold(4 * sum(map(math.prod, parts.values())) + activation_bytes(steps, shapes))
    return shape, named, parts
