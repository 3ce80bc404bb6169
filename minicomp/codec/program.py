"""The .mcz file of a program: its steps as a header, and a section for each canonical form.

    {"precision": "float", "input": [1, 28, 28], "origin": 1724320, "data": "mnist",
     "steps": [[name, kind, arguments that are not defaults, inputs], ...]}

Which weights a step has, and of what shapes, follows from its kind, its arguments and the shapes of
its inputs. Forms are written as a model's are (codec/forms.py). Nothing of batch, rung or machine
is in the file: packing happens in `plan`. "origin" is left out where it is 4 bytes a weight, "data"
where the training set is not known.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..deploy import Program, Step
from ..deploy.program import check_precision
from ..deploy.steps import shapes_of
from ..errors import FormatError
from .accounting import Shown
from .envelope import Opened, seal
from .header import label_in, read_header, whole, write_header
from .sections import Force, read_sections, write_sections

KEYS = {"precision", "input", "origin", "data", "steps"}


def encode(program: Program, *, force: Force = None) -> bytes:
    """Returns the bytes of the program's file; arguments and errors of `files.save`."""
    header = {"precision": program.precision, "input": program.input_shape}
    if program.origin_bytes != 4 * program.count():
        header["origin"] = program.origin_bytes
    if program.trained_on is not None:
        header["data"] = program.trained_on
    header["steps"] = [[s.name, s.kind, s.given(), s.inputs] for s in program.steps]
    sections = write_sections(program.forms(), force)
    return seal("program", write_header(header, "program"), sections)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the program in the bytes of a file, and where they went; errors of `files.load`."""
    opened = Opened(data, "program")
    header = read_header(opened.header, opened.dictionary, "program")
    try:
        shape, steps, parts = _declared(header, max_bytes)
        origin = whole("origin", header["origin"]) if "origin" in header else None
        trained_on = label_in(header)
        check_precision(header["precision"])
    except FormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise FormatError(f"steps: {type(e).__name__}: {e}") from None
    rows, forms = read_sections(opened, parts, max_bytes)
    opened.finish()
    steps = [replace(step, weights={name.rsplit(".", 1)[1]: forms[name] for name in names})
             for step, names in steps]
    program = Program(steps, input_shape=shape, precision=header["precision"], origin_bytes=origin,
                      trained_on=trained_on)
    spent = len(opened.header) + sum(row.bytes for row in rows)
    rest = {"architecture": len(opened.header), "envelope": len(data) - int(spent)}
    return Shown(len(data), program.origin_bytes, rows, 0, rest, program)


def _declared(header: dict, max_bytes: int):
    # The input's shape, the steps that a header lists, each with the names of its weights, and the
    # shapes of these; FormatError where they would take more than max_bytes.
    if not set(header) <= KEYS:
        raise FormatError(f"a header holds {', '.join(sorted(KEYS))}, got {str(list(header))[:80]}")
    shape = tuple(whole("input", n, 1) for n in header["input"])
    if len(shape) not in (1, 3):
        raise FormatError(f"input must be (D,) or (C, H, W), got {len(shape)} sizes")
    steps = []
    for name, kind, args, inputs in header["steps"]:
        if not (isinstance(args, dict) and isinstance(inputs, list)):
            raise FormatError("a step is a name, a kind, an object and a list")
        steps.append(Step(name, kind, tuple(inputs), args))
    shapes, parts, named = shapes_of(steps, shape), {}, []
    for step in steps:
        wanted = {f"{step.name}.{part}": size for part, size in step.parts(shapes).items()}
        named.append((step, list(wanted)))
        parts |= wanted
    numbers = sum(map(math.prod, parts.values())) + sum(map(math.prod, shapes.values()))
    for step in steps:  # and an input that a step pads
        c, *size = shapes[step.inputs[0]]
        numbers += c * math.prod(n + 2 * p for n, p in zip(size, step.args.get("padding", (0, 0))))
    if 4 * numbers > max_bytes:
        raise FormatError(f"weights and activations must take at most {max_bytes} bytes, "
                          f"declared {4 * numbers}")
    return shape, named, parts
