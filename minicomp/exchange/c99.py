"""Integer and binary programs as plain C99, for microcontrollers and for teaching.

    PREFIX.h           what to call: void PREFIX_run(const uint8_t *x, int32_t *logits)
    PREFIX.c           a function for each kind of instruction, and the calls in their order
    PREFIX_weights.h   weights and all other constants

Nothing is included but stdint.h, nothing is allocated: the values of a run share one static block,
whose places are planned here. The bits are those of the runtime. Under rule float requantization
computes in float32, IEEE 754; under the others there is no float but the scales of the logits,
which a run does not read. A binary program gives sums, of which PREFIX_logits makes its logits.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..deploy import Program
from ..deploy.arena import Value, planned
from ..deploy.integer import Instruction
from ..kernels.int8.requantize import Requantizer
from ..nn.graph import INPUT
from ..tensor import Array
from . import c99_bits as bits
from . import c99_kernels as kernels

LONGEST = 40  # letters of a name in C
SHOWN = 4  # channels of which a header says how they are normalised
COLUMNS = 92  # of a line of constants
TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int32": "int32_t", "float32": "float"}


def export(program: Program, folder: str | Path) -> dict[str, int]:
    """Writes a program to a folder, which is made; its name is the prefix of all that C sees.

    Returns bytes, by what they are: "weights", "buffers", and where gcc is here
    "constants" (all), "code" and "stack" (at most) of what gcc -Os makes for this machine.
    Raises ValueError for a program of floats; OSError.
    """
    folder = Path(folder)
    prefix = prefix_of(folder.resolve().name)
    files = sources(program, prefix)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    weights = sum(_weight_bytes(i) for i in program.instructions if "weight" in i.arrays)
    return {"weights": weights, "buffers": _planned(bits.fused(program.instructions)).size} | sizes(
        folder / f"{prefix}.c")


def _weight_bytes(i: Instruction) -> int:
    # Of bits those of whole bytes of channels are not counted.
    size = i.arrays["weight"].size
    return -(-size // bits.BYTE) if i.kind in bits.XNOR[:2] else size


def sources(program: Program, prefix: str) -> dict[str, str]:
    """Returns the texts of a program by the names of their files.

    prefix : a name in C, of `prefix_of`
    Raises ValueError for a program of floats.
    """
    if not program.integer:
        raise ValueError("C is written of an integer program (minicomp lower --precision int8 or "
                         f"binary), got precision {program.precision}")
    inputs = [i.name for i in program.instructions if i.kind == "input"]
    if len(inputs) != 1:
        raise ValueError("C is written of a program whose input is quantized once, got "
                         f"{', '.join(inputs[:4]) or 'no step that does so'}")
    text = _Text(program, prefix)
    return {f"{prefix}.h": text.header(), f"{prefix}_weights.h": text.constants(),
            f"{prefix}.c": text.program_text()}


def prefix_of(name: str) -> str:
    """Returns a name as C takes it, and no header of its own."""
    found = _letters(name)
    return found if found != "stdint" else "stdint_net"


def sizes(path: Path) -> dict[str, int]:
    """Returns "constants", "code" and "stack" in bytes of a C file as gcc -Os compiles it; nothing
    where there is no gcc, or it writes another format. The stack is the sum of all functions', of
    which none calls itself."""
    if not (shutil.which("gcc") and shutil.which("size")):
        return {}
    with tempfile.TemporaryDirectory() as room:
        out = Path(room, "program.o")
        compiled = subprocess.run(["gcc", "-std=c99", "-Os", "-fno-pic", "-fstack-usage", "-c",
                                   str(path), "-o", str(out)], capture_output=True)
        told = subprocess.run(["size", "-A", str(out)], capture_output=True, text=True)
        usage = out.with_suffix(".su")
        if compiled.returncode or told.returncode or not usage.exists():
            return {}
        stack = sum(int(line.split("\t")[1]) for line in usage.read_text().splitlines())
    found = dict(re.findall(r"^(\.\S+)\s+(\d+)", told.stdout, re.M))
    of = {start: sum(int(n) for name, n in found.items() if name.startswith(start))
          for start in (".rodata", ".text")}
    return {"constants": of[".rodata"], "code": of[".text"], "stack": stack}


def _letters(name: str) -> str:
    # A name of letters, digits and _ that begins with a letter.
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)[:LONGEST].strip("_")
    return name if name[:1].isalpha() else f"s{name}"


def _wrapped(parts: Iterable[str]) -> str:
    # Parts of an initializer, as many to a line as fit.
    lines, room = [[]], 0
    for part in parts:
        if room + len(part) > COLUMNS:
            lines.append([])
            room = 0
        lines[-1].append(part)
        room += len(part) + 2
    return ",\n".join("    " + ", ".join(line) for line in lines)


def _planned(instructions: tuple[Instruction, ...]):
    # Where values lie. The input and the logits are the caller's; a flattened map is as it was.
    home, first, last = {}, {}, {}
    for at, i in enumerate(instructions):
        home[i.name] = home[i.inputs[0]] if i.kind == "flatten" else i.name
        if i.kind == "input":
            home[i.name] = INPUT
        first.setdefault(home[i.name], at)
        last |= {home[name]: at for name in (i.name, *i.inputs) if name in home}
    if instructions and instructions[-1].grid is not None:
        last[home[instructions[-1].name]] = len(instructions)
    return planned([Value(i.name, bits.bytes_of(i, instructions), first[i.name], last[i.name])
                    for i in instructions if home[i.name] == i.name and i.grid is not None])


class _Text:
    # arrays, steps, calls : lines of C so far        parts : names of the texts of `kernels` needed

    def __init__(self, program: Program, prefix: str):
        self.program, self.prefix = program, prefix
        self.rounding = program.rounding
        self.arrays, self.steps, self.calls = [], [], []
        self.parts: set[str] = set()
        self.labels: set[str] = set()
        self.places = {INPUT: "x"}
        self.shapes = {INPUT: program.input_shape}
        self.instructions = bits.fused(program.instructions)
        self.arena = _planned(self.instructions)
        self.input = next(i for i in self.instructions if i.kind == "input")
        for i in self.instructions:
            self.places[i.name], self.shapes[i.name] = self.place(i), i.shape
            (_CALLS | bits.CALLS)[i.kind](self, i)
        last = program.instructions[-1]
        self.outputs = math.prod(last.shape)
        if last.grid is not None:
            self.parts.add("WHOLE")
            self.call("whole", self.places[last.name], self.outputs, last.grid.zero_point, "logits")

    def place(self, i: Instruction) -> str:
        if i.kind in ("input", "flatten"):
            return self.places[i.inputs[0]]
        return "logits" if i.grid is None else f"room + {self.arena.offsets[i.name]}"

    def call(self, function: str, *arguments) -> None:
        self.calls.append(f"    {function}({', '.join(map(str, arguments))});")

    def label(self, i: Instruction) -> str:
        # The name of an instruction in C, nobody else's.
        found = _letters(i.name)
        tried, n = found, 2
        while tried.lower() in self.labels:
            tried, n = f"{found}_{n}", n + 1
        self.labels.add(tried.lower())
        return tried

    def array(self, label: str, what: str, a: Array) -> str:
        # The name of an array of constants.
        values = [f"{v.hex()}f" if a.dtype.kind == "f" else str(v) for v in a.reshape(-1).tolist()]
        declared = f"static const {TYPES[a.dtype.name]} {label}_{what}[{len(values)}]"
        self.arrays.append(f"{declared} = {{\n{_wrapped(values)}\n}};\n")
        return f"{label}_{what}"

    def step(self, kind: str, label: str, fields: dict) -> str:
        # The address of the constants of an instruction.
        given = _wrapped(f".{name} = {value}" for name, value in fields.items())
        self.steps.append(f"static const struct {kind} {label}_step = {{\n{given}\n}};\n")
        return f"&{label}_step"

    def rule(self, label: str, r: Requantizer) -> dict[str, str]:
        # The field of a requantizer; arrays of which all entries are alike have one.
        self.parts |= {"CLIPPED", "CODE", *_ROUNDS[self.rounding]}
        arrays = {"factor": r.factor} if self.rounding == "float" else {
            "m0": r.m0, "shift": r.shift.astype(np.uint8)}
        arrays |= {"lo": r.lo, "hi": r.hi}
        alike = all((a == a[:1]).all() for a in arrays.values())
        first = r.zero_point if r.zero_first and self.rounding != "single" else 0
        fields = {name: self.array(label, name, a[:1] if alike else a)
                  for name, a in arrays.items()}
        fields |= {"each": int(not alike), "before": first, "after": r.zero_point - first}
        return {"rule": "{" + ", ".join(f".{k} = {v}" for k, v in fields.items()) + "}"}

    # ---------------------------------------------------------------------------- kinds of steps

    def nothing(self, i: Instruction) -> None:
        pass

    def product(self, i: Instruction) -> None:
        label = self.label(i)
        self.rounded(i, label, self.product_fields(i, label), i.kind, i.kind)

    def product_fields(self, i: Instruction, label: str) -> dict:
        """Returns the constants of a product of codes, but for what becomes of its sums."""
        fields = {what: self.array(label, what, i.arrays[what]) for what in ("weight", "offset")}
        if "kernel_size" in i.args:
            return fields | self.window(i) | {"o": i.shape[0], "groups": i.args["groups"],
                                              "zero_point": i.args["zero_point"]}
        return fields | {"i": self.shapes[i.inputs[0]][0], "o": i.shape[0]}

    def maps(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a value before it was flattened."""
        return bits.map_of(name, self.instructions)

    def rounded(self, i: Instruction, label: str, fields: dict, kind: str, function: str) -> None:
        # The call of a step that gives codes, or sums.
        self.parts |= {"RULE", kind.upper()}
        sums = i.grid is None
        self.parts.add(f"{function.upper()}_{'SUMS' if sums else 'CODES'}")
        if not sums:
            fields |= self.rule(label, i.arrays["requantizer"])
        self.call(f"{function}{'_sums' * sums}", self.places[i.inputs[0]],
                  self.step(kind, label, fields), self.places[i.name])

    def window(self, i: Instruction) -> dict[str, int]:
        (c, h, w), (_, ho, wo), args = self.shapes[i.inputs[0]], i.shape, i.args
        (kh, kw), (sh, sw), (ph, pw) = args["kernel_size"], args["stride"], args["padding"]
        return {"c": c, "h": h, "w": w, "kh": kh, "kw": kw, "sh": sh, "sw": sw, "ph": ph, "pw": pw,
                "ho": ho, "wo": wo}

    def max_pool(self, i: Instruction) -> None:
        self.parts |= {"RULE", "POOL", "MAX_POOL"}
        self.call("max_pool", self.places[i.inputs[0]],
                  self.step("pool", self.label(i), self.window(i)), self.places[i.name])

    def avg_pool(self, i: Instruction) -> None:
        self.parts.add("POOL_SUM")
        fields = self.window(i) | {"zero_point": i.args["zero_point"]}
        self.rounded(i, self.label(i), fields, "pool", "avg_pool")

    def add(self, i: Instruction) -> None:
        self.parts |= {"CLIPPED", "ADD_STEP", "ADD", *_ROUNDS[self.rounding]}
        a, label = i.arrays["adder"], self.label(i)
        numbers = {"factor": self.array(label, "factor", a.factor)} if a.rounding == "float" else {
            "m": self.array(label, "m", a.m.astype(np.int32)), "shift": a.shift}
        fields = numbers | {"zero": self.array(label, "zero", a.zero), "inputs": len(i.inputs),
                            "size": math.prod(i.shape), "zero_point": a.zero_point, "lo": a.lo,
                            "hi": a.hi}
        xs = ", ".join(self.places[name] for name in i.inputs)
        self.call("add", f"(const uint8_t *const[]){{{xs}}}", self.step("add", label, fields),
                  self.places[i.name])

    def table(self, i: Instruction) -> None:
        self.look_up(self.label(i), "table", i.inputs[0], i.arrays["table"], self.places[i.name])

    def concat(self, i: Instruction) -> None:
        at, label = 0, self.label(i)
        for n, (name, table) in enumerate(zip(i.inputs, i.arrays["tables"])):
            self.look_up(label, f"table_{n}", name, table, f"{self.places[i.name]} + {at}")
            at += math.prod(self.shapes[name])

    def look_up(self, label: str, what: str, source: str, table: Array, to: str) -> None:
        self.parts.add("LOOK_UP")
        self.call("look_up", self.places[source], math.prod(self.shapes[source]),
                  self.array(label, what, table), to)

    def shuffle(self, i: Instruction) -> None:
        self.parts.add("SHUFFLE")
        c, h, w = i.shape
        self.call("shuffle", self.places[i.inputs[0]], i.args["groups"], c // i.args["groups"],
                  h * w, self.places[i.name])

    # -------------------------------------------------------------------------------------- files

    def header(self) -> str:
        guard, prefix, grid = self.prefix.upper(), self.prefix, self.input.grid
        return f"""/* {self.taken()} codes go in, channel after channel, row by row:
 *
 *     x = clip(rint(v / {grid.scale:.9g}) + {grid.zero_point}, {grid.lo}, {grid.hi}), half to even
 *
 * {self.meaning()}
 * {self.given()}
 * The values of a run lie in static memory: one run at a time. */
#ifndef {guard}_H
#define {guard}_H

#include <stdint.h>

#define {guard}_INPUTS {math.prod(self.program.input_shape)}
#define {guard}_OUTPUTS {self.outputs}

void {prefix}_run(const uint8_t *x, int32_t *logits);

{self.declared()}

#endif
"""

    def given(self) -> str:
        # What the integers that a run gives are.
        if self.program.precision == "binary":
            return f"Sum o stands for what {self.prefix}_logits makes of it, in float arithmetic."
        return f"Logit o, an integer, stands for logits[o] {self.prefix}_scale[o]."

    def declared(self) -> str:
        if self.program.precision == "binary":
            return f"void {self.prefix}_logits(const int32_t *sums, float *logits);"
        return f"extern const float {self.prefix}_scale[{self.prefix.upper()}_OUTPUTS];"

    def taken(self) -> str:
        return " x ".join(map(str, self.program.input_shape))

    def meaning(self) -> str:
        # What v of the header is.
        arrays = self.input.arrays
        if not arrays:
            return "of the numbers v that the net was trained on."
        each = ", ".join(f"{g:.9g} v + {b:.9g}" for g, b in
                         zip(arrays["gain"][:SHOWN], arrays["bias"][:SHOWN]))
        more = ", ..." * (len(arrays["gain"]) > SHOWN)
        return f"of what the net was trained on, each channel normalised:\n *     {each}{more}"

    def constants(self) -> str:
        return "#include <stdint.h>\n\n" + "\n".join(self.arrays)

    def program_text(self) -> str:
        used = [text if isinstance(text, str) else text[self.rounding]
                for name, text in (kernels.TEXTS | bits.TEXTS).items() if name in self.parts]
        room = f"static uint8_t room[{self.arena.size}];\n\n" * (self.arena.size > 0)
        return "\n".join([
            f'#include "{self.prefix}.h"\n#include "{self.prefix}_weights.h"', "".join(used),
            *self.steps, self.meant(),
            f"{room}void {self.prefix}_run(const uint8_t *x, int32_t *logits)\n{{", *self.calls,
            "}\n"])

    def meant(self) -> str:
        # What makes numbers of the integers that a run gives.
        if self.program.precision == "binary":
            a = self.program.instructions[-1].arrays
            named, before = {what: a[what] for what in ("scale", "gain", "bias")}, "static "
            rest = bits.LOGITS.format(prefix=self.prefix, guard=self.prefix.upper())
        else:
            named, before, rest = {"scale": self.scales()}, "", ""
        return "".join(
            f"{before}const float {self.prefix}_{what}[{self.outputs}] = {{\n"
            f"{_wrapped(f'{v.hex()}f' for v in a.tolist())}\n}};\n" for what, a in named.items()
        ) + rest

    def scales(self) -> Array:
        # Real units a step of each logit, (outputs,) float32.
        last = self.program.instructions[-1]
        if last.grid is not None:
            return np.full(self.outputs, last.grid.scale, np.float32)
        return np.repeat(last.scale, self.outputs // len(last.scale))


_CALLS = {"input": _Text.nothing, "flatten": _Text.nothing, "linear": _Text.product,
          "conv": _Text.product, "max_pool": _Text.max_pool, "avg_pool": _Text.avg_pool,
          "add": _Text.add, "table": _Text.table, "concat": _Text.concat,
          "shuffle": _Text.shuffle}
_ROUNDS = {"single": ("FLOORED",), "gemmlowp": ("AWAY",), "float": ("EVEN",)}
