"""`minicomp show`: where every byte of a file went."""

from __future__ import annotations

from pathlib import Path

from ..codec import PARTS, Shown
from ..codec.accounting import times
from ..codec.entropy import bounds
from . import opening, options
from .progress import print_table

EXAMPLES = """
minicomp show lenet5.mcz
minicomp show lenet5.mcz --json parts.json
minicomp show lenet5.safetensors
"""


# The words of the column "encoding", by what they begin with.
ENCODINGS = {
    "bitmap": "bitmap: one bit an entry says whether it is kept",
    "relative": "relative p=n: the distance to the next kept entry in n bits (Deep Compression)",
    "rice": "rice k=n: that distance in a Rice code of n low bits",
    "bucket": "bucket s=n: that distance as a coded size and plain bits below it",
    "context": "context: a range coder that learns from an entry's neighbours what to expect; with "
    "lag=n also from those n places before, a row above in images n pixels wide",
    "mixed": "mixed: a range coder that mixes several such opinions: rows, columns, images, signs, "
    "sizes; with units also what the layer before keeps",
    "axes reversed": "axes reversed: entries in the order of the transposed array",
    "huffman": "huffman: frequent symbols get short codes",
    "k=": "k=n: n different values",
}


def add_parsers(commands) -> None:
    """Adds the command `show`."""
    p = options.command(
        commands,
        "show",
        run,
        help="where every byte of a file went, per layer",
        examples=EXAMPLES,
    )
    p.add_argument("file", metavar="FILE",
                   help="a .mcz file, of a model or a program, or a .safetensors file")
    opening.add_structure(p)
    options.add_json(p)
    options.files(p, reads=("file",))


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = Path(args.file)
    if args.structure is not None or args.normalize is not None:
        opening.opened(args.file, args)  # whether the arrays fit
    shown, says = opening.shown(args.file)
    print_bytes(str(path), shown)
    if "precision" in says:
        rule = f", rounding {says['rounding']}" if says["rounding"] is not None else ""
        print(f"a program of precision {says['precision']}{rule}")
    if says.get("data") is not None:
        print(f"trained on {says['data']}")
    if "normalize" in says:
        print(f"input normalised {opening.described(says['normalize'])}")
    found = _all_bounds(shown) if args.json else {}
    options.write_json(
        args.json,
        {
            "file": str(path),
            "file_bytes": shown.file_bytes,
            "dense_bytes": shown.origin_bytes,
            "ratio": shown.ratio,
            "parts": shown.parts(),
            "rest": shown.rest,
            "running_statistics": shown.buffers,
            "data": says.get("data"),
            "normalize": says.get("normalize"),
            "precision": says.get("precision"),
            "rounding": says.get("rounding"),
            "forms": [
                {
                    "name": r.name,
                    "form": r.form,
                    "shape": list(r.shape),
                    "kept": r.kept,
                    "how": r.how,
                    "parts": r.parts,
                    "bytes": r.bytes,
                    "order0_bytes": found[r.name][0] if r.name in found else None,
                    "context_bytes": found[r.name][1] if r.name in found else None,
                }
                for r in shown.rows
            ],
        },
    )
    return 0


def print_bytes(title: str, shown: Shown) -> None:
    """Prints a file's bytes, a line a form, which sum to its size."""
    found = _all_bounds(shown)
    rows = [
        [
            r.name,
            r.form,
            " x ".join(map(str, r.shape)),
            r.kept,
            r.how,
            *(_bytes(r.parts.get(part, 0)) for part in PARTS),
            _bytes(r.bytes),
            *_bounds(found.get(r.name)),
        ]
        for r in shown.rows
    ]
    blank, ends = ["" for _ in PARTS], ["", ""]
    if shown.buffers:
        rows.append(["running statistics", "", "", "", "", *blank, _bytes(shown.buffers), *ends])
    rows += [[name, "", "", "", "", *blank, _bytes(n), *ends] for name, n in shown.rest.items()]
    print_table(
        title,
        ["form", "stored as", "shape", "kept", "encoding", *PARTS, "bytes", "order 0", "context"],
        rows,
        footer=f"{shown.file_bytes:,} bytes in all, {times(shown.ratio)}x smaller than the "
        f"{shown.origin_bytes:,} bytes of the dense net it came from",
    )
    if found:
        print(_against(shown, found))
    words = {word.strip() for r in shown.rows for word in r.how.split(",")}
    for begin, meaning in ENCODINGS.items():
        if any(word.startswith(begin) for word in words):
            print(f"  {meaning}")


def _bytes(n: float) -> str:
    return f"{n:,.1f}".removesuffix(".0") if n else ""


def _all_bounds(shown: Shown) -> dict[str, tuple[float, float]]:
    forms = shown.model.forms()
    every = {r.name: bounds(forms[r.name]) for r in shown.rows if r.name in forms}
    return {name: found for name, found in every.items() if found}


def _bounds(found: tuple[float, float] | None) -> list[str]:
    return ["", ""] if found is None else [_bytes(round(n, 1)) for n in found]


def _against(shown: Shown, found: dict[str, tuple[float, float]]) -> str:
    # What the streams of codes take in all beside the bounds; tables and headers by themselves.
    rows = [r for r in shown.rows if r.name in found]
    streams = sum(r.parts[part] for r in rows for part in ("values", "index"))
    order0, context = (sum(found[r.name][i] for r in rows) for i in range(2))
    beside = sum(r.bytes for r in rows) - streams
    percent = 100 * (streams / order0 - 1) if order0 else 0.0
    return (f"order 0, context: bytes that no coder undercuts which knows of a code only how often "
            f"it occurs, or also the best of its single contexts\n"
            f"codes take {streams:,.0f} bytes, {percent:+.1f} % beside order 0 ({order0:,.0f}; "
            f"context {context:,.0f}); their codebooks, tables and headers {beside:,.0f}")
