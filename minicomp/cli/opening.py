"""The net that a user names: a built-in one, a .mcz file, or arrays and the net they belong to."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ..codec import Shown, load, show
from ..codec.accounting import Row
from ..deploy import Program
from ..errors import UserError, printable
from ..exchange.safetensors import load_safetensors
from ..models import MODELS
from ..nn.graph import Model
from . import options

FILES = (".mcz", ".safetensors")
WHAT = "a .mcz file, or a .safetensors file with --model"


def add_structure(parser) -> None:
    """Adds --model."""
    parser.add_argument(
        "--model", dest="structure", metavar="NET",
        help="the net whose weights a .safetensors file holds: a built-in model, or a .mcz file")


def is_file(given: str) -> bool:
    """Returns whether what the user named is a file, not a built-in model."""
    return Path(given).suffix in FILES or given not in MODELS and Path(given).exists()


def check_name(name: str) -> str:
    """Returns the name of a built-in model; UserError names those there are."""
    if name in MODELS:
        return name
    raise UserError(f"unknown model {printable(repr(name))}; there are {', '.join(MODELS)}, or "
                    f"{WHAT}")


def built_in(name: str, structure: str | None) -> str:
    """Returns the name of a built-in model, with which --model does not go; UserError."""
    if structure is not None:
        raise UserError("--model goes with a .safetensors file; a built-in model is its own net")
    return check_name(name)


def existing(given: str) -> Path:
    """Returns the path of a file that is there and has one of the endings of FILES; UserError."""
    path = Path(given)
    if path.is_dir():
        raise UserError(f"{printable(path)}: a folder, not a file")
    if not path.is_file():
        raise UserError(f"{printable(path)}: there is no such file")
    if path.suffix not in FILES:
        raise UserError(f"{printable(path)}: a model is {WHAT}")
    return path


def opened(given: str, structure: str | None = None, *, kind: str | None = None) -> Model | Program:
    """Returns what a file holds.

    structure : of a .safetensors file, the net whose arrays they are: a built-in model, or a .mcz
        file        kind : "model" where a program is of no use
    Raises UserError, FormatError.
    """
    path = existing(given)
    if path.suffix == ".mcz":
        if structure is not None:
            raise UserError(f"--model goes with a .safetensors file; {printable(path)} holds its "
                            "own net")
        return load(path, kind=kind)
    if structure is None:
        raise UserError(f"{printable(path)} holds arrays without a net: name it, --model lenet5")
    model = (load(existing(structure), kind="model").dense() if is_file(structure)
             else MODELS[check_name(structure)]())
    arrays = load_safetensors(path)
    try:
        model.load_state_dict(arrays)
    except ValueError as e:
        raise UserError(f"{printable(path)} does not hold the weights of {printable(structure)}: "
                        f"{printable(e)}") from None
    return model


def start(args, say, ending: str) -> tuple[str | Model, str, Path]:
    """Returns what a run starts from, the name by which recipes know it, and the file to write.

    args : with model, structure, out        say : takes a line of text
    ending : of the default name of what is made of a file, FILE-ending.mcz
    """
    if args.model is None or not is_file(args.model):
        name = (options.default_model(say) if args.model is None
                else built_in(args.model, args.structure))
        return name, name, Path(args.out or f"{name}.mcz")
    path = existing(args.model)
    out = Path(args.out or f"{path.stem}-{ending}.mcz")
    model = opened(args.model, args.structure, kind="model")
    if out.exists() and out.samefile(path):
        raise UserError(f"--out: {printable(out)} is the file to start from; give another name")
    return model, named(model, path.stem), out


def named(model: Model | Program, otherwise: str) -> str:
    """Returns the built-in's name, "program", or for an edited net what is given."""
    if isinstance(model, Program):
        return "program"
    return model.builtin["name"] if model.builtin else otherwise


def digest(begin: str | Model, given: str | None, structure: str | None) -> str:
    """Returns what a run began with in short, the contents of a file too: with another it does not
    go on."""
    if isinstance(begin, str):
        return begin
    found = sha256(Path(given).read_bytes()).hexdigest()[:16]
    of = "" if structure is None else f" as {structure}"
    return f"{given}{of} (sha256 {found})"


def shown(given: str) -> Shown:
    """Returns where the bytes of a .mcz file went, or of a .safetensors file, whose arrays are the
    rows."""
    path = existing(given)
    if path.suffix == ".mcz":
        return show(path)
    arrays = load_safetensors(path)
    rows = [Row(name, "array", a.shape, a.size, str(a.dtype), {"values": float(a.nbytes)})
            for name, a in arrays.items()]
    size = path.stat().st_size
    taken = sum(a.nbytes for a in arrays.values())
    return Shown(size, 4 * sum(a.size for a in arrays.values()), rows, 0,
                 {"header": size - taken})
