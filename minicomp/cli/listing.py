"""`minicomp list`, `minicomp cite`, `minicomp vectors` and `minicomp --version`."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from .. import __version__, reference
from .. import data as datasets
from ..compress import TECHNIQUES
from ..compress.finetune import Rounds, Trained
from ..compress.technique import Knob
from ..errors import UserError, did_you_mean
from ..jobs.recipe import load_recipe, recipes
from ..kernels import cpu
from ..models import ARGUMENTS, MODELS, named
from ..models.arguments import Argument
from . import options
from .progress import print_table


def add_parsers(commands) -> None:
    """Adds the commands `list`, `cite` and `vectors`."""
    p = options.command(commands, "list", listing, help="techniques, models, data sets and recipes",
                        examples="minicomp list\nminicomp list magnitude\nminicomp list resnet20\n"
                        "minicomp list mobilenetv2:classes=1000,resolution=224")
    p.add_argument(
        "technique", nargs="?", metavar="TECHNIQUE|MODEL",
        help="its knobs, or its arguments and size, with ranges and defaults"
    )
    options.add_json(p)
    p = options.command(commands, "cite", cite, help="the paper of a technique",
                        examples="minicomp cite magnitude")
    p.add_argument("technique", metavar="TECHNIQUE")
    options.add_json(p)
    p = options.command(
        commands,
        "vectors",
        vectors,
        help="test cases of a reference function for other languages",
        examples="minicomp vectors\nminicomp vectors kmeans_1d_optimal --out kmeans.json --seed 1\n"
        "minicomp vectors pack_bits --out pack.npz",
    )
    p.add_argument(
        "name", nargs="?", metavar="NAME", help="a function of minicomp.reference; none lists them"
    )
    p.add_argument("--out", metavar="F.json|F.npz", help="the file to write (default NAME.json)")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    options.files(p, writes=("out",))


def listing(args) -> int:
    """Prints what there is, or the knobs of one technique."""
    if args.technique:
        is_model = args.technique.partition(":")[0] in MODELS
        return _arguments(args) if is_model else _knobs(args)
    techniques = [[t.word, t.title, t.source] for t in TECHNIQUES]
    models = []
    for name, build in MODELS.items():
        model = build()
        models.append(
            [
                name,
                model.count(),
                sum(model.macs().values()),
                " x ".join(map(str, model.input_shape)),
            ]
        )
    found = [[r.name, r.state, r.how] for r in datasets.available()]
    made = [[name, load_recipe(name, "lenet5", TECHNIQUES).title] for name in recipes()]
    print_table(
        "techniques (minicomp list TECHNIQUE shows the knobs)",
        ["word", "name", "paper"],
        techniques,
    )
    print_table("models", ["name", "parameters", "MACs", "input"], models)
    print_table("data sets", ["name", "state", "how to get it"], found)
    print_table("recipes", ["name", "title"], made)
    options.write_json(args.json, {
        "techniques": [dict(zip(("word", "name", "paper"), r)) for r in techniques],
        "models": [dict(zip(("name", "parameters", "macs", "input"), r)) for r in models],
        "data": [dict(zip(("name", "state", "how"), r)) for r in found],
        "recipes": [dict(zip(("name", "title"), r)) for r in made]})
    return 0


def _technique(word: str):
    by_word = {t.word: t for t in TECHNIQUES}
    if word not in by_word:
        raise UserError(f"unknown technique {word!r}{did_you_mean(word, [*by_word, *MODELS])}")
    return by_word[word]


def _arguments(args) -> int:
    name, given = named(args.technique)
    model = MODELS[name](**given)
    rows = [[key, " or ".join(map(str, a.among)) or f"{a.lo}..{a.hi}", a.default,
             given.get(key, a.default)]
            for key, a in ARGUMENTS[name].items() if isinstance(a, Argument)]
    size = {"parameters": model.count(), "macs": sum(model.macs().values())}
    headers = ("argument", "allowed", "default", "here")
    print_table(f"{args.technique}: {size['parameters']:,} parameters, {size['macs']:,} MACs",
                list(headers), rows,
                footer=f"trained so: minicomp train {name}:argument=value,argument=value")
    options.write_json(args.json, {"word": name, **size,
                                   "arguments": [dict(zip(headers, row)) for row in rows]})
    return 0


def _knobs(args) -> int:
    kind = _technique(args.technique)
    footer = kind.source
    if issubclass(kind, (Trained, Rounds)):
        footer += (". Its training has knobs too, such as epochs and lr: "
                   "minicomp list finetune shows them")
    rows = [
        [
            name,
            _allowed(k),
            _default(kind.__dataclass_fields__[name].default),
            "yes" if k.per_layer else "",
            k.help,
        ]
        for name, k in kind.knobs().items()
    ]
    headers = ["knob", "allowed", "default", "by layer", "what it is"]
    print_table(f"{kind.word}: {kind.title}" + ("" if rows else ", no knobs"),
                headers if rows else [], rows, footer=footer)
    options.write_json(
        args.json,
        {
            "word": kind.word,
            "name": kind.title,
            "paper": kind.source,
            "knobs": [
                dict(zip(("name", "allowed", "default", "per_layer", "help"), r)) for r in rows
            ],
        },
    )
    return 0


def _allowed(k: Knob) -> str:
    if k.choices:
        return " | ".join(k.choices)
    kind = {float: "number", int: "integer", bool: "true | false", str: "text"}[k.type]
    return kind if k.lo is None and k.hi is None else f"{kind} in {k.range()}"


def _default(value) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def cite(args) -> int:
    """Prints the paper of a technique."""
    kind = _technique(args.technique)
    print(f"{kind.title}: {kind.source or 'a common practice; it has no paper of its own'}")
    options.write_json(args.json, {"word": kind.word, "name": kind.title, "paper": kind.source})
    return 0


def vectors(args) -> int:
    """Writes the cases of one reference function."""
    if args.name is None:
        if args.out is not None or args.seed:
            raise UserError("--seed and --out go with NAME, the function whose cases to write")
        print_table(
            "reference functions",
            ["name", "source"],
            [[n, e.source] for n, e in reference.ENTRIES.items()],
        )
        return 0
    if args.name not in reference.ENTRIES:
        raise UserError(
            f"unknown reference function {args.name!r}{did_you_mean(args.name, reference.ENTRIES)}"
        )
    out = Path(args.out or f"{args.name}.json")
    if out.suffix not in (".json", ".npz"):
        raise UserError(f"--out must end in .json or .npz, got {out}")
    options.check_files(args, out=out)
    count = reference.write_vectors(args.name, out, seed=args.seed)
    print(f"{out}: {count} cases of {args.name}, {out.stat().st_size:,} bytes")
    return 0


def print_version() -> None:
    """Prints versions, and which kernels run from where."""
    from .. import __file__ as here

    print(f"minicomp {__version__}  ({Path(here).parent})")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
    print("\n".join(cpu.describe()))
