"""The net that a user names: a built-in one, a .mcz file, or arrays and the net they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ..codec import Shown, load, show
from ..codec.accounting import Row
from ..data import Dataset
from ..deploy import Program
from ..errors import FormatError, UserError, printable
from ..exchange.safetensors import load_safetensors, save_safetensors
from ..models import MODELS, for_data, normalization, renormalized
from ..nn.graph import Model
from ..nn.layers.normalize import NAMED, Statistics, statistics
from . import options

FILES = (".mcz", ".safetensors")
NOTE = "minicomp.normalize"  # of a .safetensors file, as JSON
WHAT = "a .mcz file, or a .safetensors file with --model"


def add_structure(parser) -> None:
    """Adds --model."""
    parser.add_argument(
        "--model", dest="structure", metavar="NET",
        help="the net whose weights a .safetensors file holds: a built-in model, or a .mcz file")
    parser.add_argument(
        "--normalize", metavar="NAME|MEAN/STD|none",
        help="what that net's input of 0..1 is taken through, where the file does not tell: as of "
        f"{', '.join(NAMED)}; 0.1307/0.3081; or nothing")


def is_file(given: str) -> bool:
    """Returns whether what the user named is a file, not a built-in model."""
    return Path(given).suffix in FILES or given not in MODELS and Path(given).exists()


def check_name(name: str) -> str:
    """Returns the name of a built-in model; UserError names those there are."""
    if name in MODELS:
        return name
    raise UserError(f"unknown model {printable(repr(name))}; there are {', '.join(MODELS)}, or "
                    f"{WHAT}")


def built_in(args) -> str:
    """Returns the name of a built-in model, with which --model does not go; UserError."""
    for option, value in (("--model", args.structure), ("--normalize", args.normalize)):
        if value is not None:
            raise UserError(f"{option} goes with a .safetensors file; a built-in model is its own "
                            "net")
    return check_name(args.model)


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


def opened(args, given: str, *, kind: str | None = None,
           data: Callable[[], Dataset] | None = None, say=None) -> Model | Program:
    """Returns what a file holds.

    args : with structure and normalize, for a .safetensors file
    kind : "model" where a program is of no use
    data, say : the data set, loaded at the first call, whose normalisation is taken, and said,
        where neither the user nor the file tells it
    Raises UserError, FormatError.
    """
    path = existing(given)
    if path.suffix == ".mcz":
        for option, value in (("--model", args.structure), ("--normalize", args.normalize)):
            if value is not None:
                raise UserError(f"{option} goes with a .safetensors file; {printable(path)} holds "
                                "its own net")
        return load(path, kind=kind)
    if args.structure is None:
        raise UserError(f"{printable(path)} holds arrays without a net: name it, --model lenet5")
    name = args.structure
    given = () if args.normalize is None else (_statistics(args.normalize),)
    if is_file(name):
        model = load(existing(name), kind="model").dense()
    else:
        check_name(name)
    arrays = load_safetensors(path)
    if not is_file(name):
        model = MODELS[name](**_classes(arrays)) if data is None else for_data(name, data())
    if given:
        model = _renormalized(model, *given)
    elif NOTE in arrays.notes:
        model = _renormalized(model, _noted(path, arrays.notes[NOTE]))
    elif not is_file(name) and data is None:
        raise UserError(f"{printable(path)} does not tell how its net's input is normalised: "
                        f"--normalize NAME of {', '.join(NAMED)}, MEAN/STD, or none")
    elif not is_file(name):
        say(f"{printable(path)} does not tell how its net's input is normalised: taken as "
            f"{data().name} is, {_words(normalization(model))}; --normalize says it otherwise")
    try:
        model.load_state_dict(arrays)
    except ValueError as e:
        raise UserError(f"{printable(path)} does not hold the weights of {printable(name)}: "
                        f"{printable(e)}") from None
    return model


def save_arrays(model: Model, path: Path) -> None:
    """Writes the decoded weights of a model as a .safetensors file with PyTorch's names, and notes
    how its input is normalised."""
    note = {NOTE: json.dumps(normalization(model))}
    save_safetensors(model.dense().state_dict(), path, metadata=note)


def _classes(arrays) -> dict[str, int]:
    # The outputs of a net, which are the rows of the last of its matrices.
    matrices = [a for a in arrays.values() if a.ndim == 2]
    return {"classes": len(matrices[-1])} if matrices and len(matrices[-1]) else {}


def _renormalized(model: Model, normalize: Statistics | None) -> Model:
    try:
        return renormalized(model, normalize)
    except ValueError as e:
        raise UserError(f"--normalize: {printable(e)}") from None


def _statistics(text: str) -> Statistics | None:
    # none, a name, or means/deviations by channel: 0.13/0.31, 0.49,0.48,0.45/0.25,0.24,0.26
    if text == "none" or text in NAMED:
        return None if text == "none" else text
    try:
        mean, std = (tuple(float(n) for n in part.split(",")) for part in text.split("/"))
        return mean, std
    except ValueError:
        raise UserError(f"--normalize must be one of {', '.join(NAMED)}, MEAN/STD such as "
                        f"0.1307/0.3081 (a number a channel, commas between), or none, got "
                        f"{printable(text, 100)}") from None


def _noted(path: Path, text: str) -> Statistics | None:
    # What `save_arrays` noted.
    try:
        found = json.loads(text)
        return found if found is None or isinstance(found, str) else (found[0], found[1])
    except (ValueError, RecursionError, LookupError, TypeError):
        raise FormatError(f"{printable(path)}: {NOTE} must be null, a name, or means and "
                          f"deviations, got {printable(text, 40)}") from None


def _words(normalize: Statistics | None) -> str:
    return "not at all" if normalize is None else (
        "(x - {}) / {}".format(*(", ".join(f"{n:g}" for n in part)
                                 for part in statistics(normalize))))


def start(args, say, ending: str, data: Callable[[], Dataset]) -> tuple[str | Model, str, Path]:
    """Returns what a run starts from, the name by which recipes know it, and the file to write.

    args : with model, structure, normalize, out        say : takes a line of text
    data : the data set, loaded at the first call        ending : of the default name of what is made of a file, FILE-ending.mcz
    """
    if args.model is None or not is_file(args.model):
        name = (options.default_model(say) if args.model is None
                else built_in(args))
        return name, name, Path(args.out or f"{name}.mcz")
    path = existing(args.model)
    out = Path(args.out or f"{path.stem}-{ending}.mcz")
    model = opened(args, args.model, kind="model", data=data, say=say)
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
    rows = [Row(printable(name, 100), "array", a.shape, a.size, str(a.dtype),
                {"values": float(a.nbytes)}) for name, a in arrays.items()]
    size, numbers = path.stat().st_size, sum(a.size for a in arrays.values())
    rest = size - sum(a.nbytes for a in arrays.values())
    unread = f" and {len(arrays.unreadable)} arrays of other types" if arrays.unreadable else ""
    return Shown(size, 4 * numbers, rows, 0, {f"header{unread}": rest})
