"""The net that a user names: built in, of a .mcz or .onnx file, or arrays and the net of theirs."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ..codec import Shown, load, show
from ..codec.accounting import Row
from ..data import Dataset
from ..deploy import Program
from ..errors import UserError, printable
from ..exchange.onnx_import import load_onnx, onnx_arrays
from ..exchange.safetensors import load_safetensors, noted
from ..jobs.job import check_work
from ..models import MODELS, from_spec, normalization, renormalized
from ..models import named as named_net
from ..nn.graph import Model
from ..nn.layers.normalize import NAMED, Statistics, statistics
from ..tensor import Array
from . import options
from .paths import check_readable
from .progress import Screen

FILES = (".mcz", ".safetensors", ".onnx")
WHAT = "a .mcz or .onnx file, or a .safetensors file with --model"


def add_structure(parser) -> None:
    """Adds --model and --normalize."""
    parser.add_argument(
        "--model", dest="structure", metavar="NET",
        help="the net whose weights a .safetensors file holds: a built-in model, NAME or "
        "NAME:argument=value,..., or a .mcz file")
    add_normalize(parser)
    options.files(parser, reads=("structure",))


def add_normalize(parser) -> None:
    """Adds --normalize."""
    parser.add_argument(
        "--normalize", metavar="SET|none|MEAN,STD",
        help="what was done to the pixels in 0..1 on which the net of a file was trained, where "
        f"the file does not say: as for {', '.join(NAMED)}, nothing, or (x - MEAN) / STD; of "
        "several channels all means, then all deviations")


def is_file(given: str) -> bool:
    """Returns whether what the user named is a file, not a built-in model."""
    return Path(given).suffix in FILES or given not in MODELS and Path(given).exists()


def check_name(text: str) -> str:
    """Returns the name of the built-in model that a text names, "resnet20:blocks=1"; UserError
    names those there are."""
    if text.partition(":")[0] in MODELS:
        return named_net(text)[0]
    raise UserError(f"unknown model {printable(repr(text))}; there are {', '.join(MODELS)}, or "
                    f"{WHAT}")


def built_in(text: str, args) -> str:
    """Returns the name of a built-in model, with which --model and --normalize do not go;
    UserError."""
    if args.structure is not None:
        raise UserError("--model goes with a .safetensors file; a built-in model is its own net")
    if args.normalize is not None:
        raise UserError("--normalize goes with a file; a built-in model normalises as its data do")
    return check_name(text)


def existing(given: str) -> Path:
    """Returns the path of a file that is there and has one of the endings of FILES; UserError."""
    path = Path(given)
    check_readable(path)
    if path.suffix not in FILES:
        raise UserError(f"{printable(path)}: a model is {WHAT}")
    return path


def opened(given: str, args, *, kind: str | None = None, say: Callable[[str], None] | None = None,
           shape: tuple[int, ...] | None = None) -> Model | Program:
    """Returns what a file holds.

    args : with structure, of a .safetensors file the net whose arrays they are, a built-in model or
        a .mcz file; and normalize, what the user says of its input
    kind : "model" where a program is of no use
    say : takes a line of text, what was left out of an .onnx file; None shows it
    shape : in which examples go into the net of an .onnx file, where it takes them in a row
    Raises UserError, FormatError.
    """
    path, structure = existing(given), args.structure
    if path.suffix == ".safetensors":
        model = _of_arrays(path, structure)
    elif structure is not None:
        raise UserError(f"--model goes with a .safetensors file; {printable(path)} holds its own "
                        "net")
    elif path.suffix == ".onnx":
        model = imported(path, say or Screen().say, shape)
    else:
        model = load(path, kind=kind)
    if args.normalize is None:
        return model
    if isinstance(model, Program):
        raise UserError("--normalize goes with a model, not with a program")
    if path.suffix != ".safetensors" and normalization(model) is not None:
        raise UserError(f"{printable(path)} normalises its input itself, "
                        f"{described(normalization(model))}: --normalize does not go with it")
    try:
        return renormalized(model, _normalize(args.normalize))
    except ValueError as e:
        raise UserError(f"--normalize: {e}") from None


def imported(path: Path, say: Callable[[str], None], shape: tuple[int, ...] | None = None) -> Model:
    """Returns the net of an .onnx file; UserError, FormatError.

    say : takes a line of text, each thing that was left out        shape : of `load_onnx`
    """
    found = load_onnx(path, input_shape=shape)
    for note in found.notes:
        say(f"{printable(path)}: {note}")
    return found.model


def _normalize(text: str) -> Statistics | None:
    # What --normalize says.
    if text == "none" or text in NAMED:
        return None if text == "none" else text
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    half = len(numbers) // 2
    if not numbers or len(numbers) % 2:
        raise UserError(f"it must be {', '.join(NAMED)}, none, or MEAN,STD (of several channels "
                        f"all means, then all deviations), got {printable(repr(text), 60)}")
    return numbers[:half], numbers[half:]


def described(given: Statistics | None) -> str:
    """Returns an input normalisation in words."""
    if given is None:
        return "not at all"
    if isinstance(given, str):
        return f"as {given}"
    mean, std = (", ".join(f"{v:g}" for v in values[:4]) + ", ..." * (len(values) > 4)
                 for values in given)
    return f"by mean {mean} and deviation {std}"


def with_data(begin: str | Model | Program, given: str | None, args, screen
              ) -> tuple[str | Model | Program, Dataset]:
    """Returns the net and the data that the arguments name, the net's own where they name none.

    A file that does not say what was done to its input is taken to be trained on pixels normalised
    as the data's, if it holds arrays; a net stays as it is. What is assumed is said in one line.
    begin : what `start` or `opened` returned of the name `given`
    Raises UserError for a file whose net takes more operations than --max-operations allows.
    """
    known = None if isinstance(begin, str) else begin.trained_on
    data = options.load_data(args, screen.say, screen.log, trained_on=known)
    if not isinstance(begin, str):  # a stranger's net
        check_work(begin, len((data.test or data.val).y), args.max_operations)
    open_ = isinstance(begin, Model) and known is None and normalization(begin) is None
    if not open_ or args.normalize is not None or data.normalize is None:
        return begin, data
    if Path(given).suffix != ".safetensors":
        screen.say(f"{printable(given)} neither normalises its input nor names its data: pixels go "
                   "in as they are, 0..1; --normalize says otherwise")
    elif not says(given) and len(statistics(data.normalize)[0]) == begin.input_shape[0]:
        begin = renormalized(begin, data.normalize)
        screen.say(assumed(given, data.normalize))
    return begin, data


def float_net(given: str, *, kind: str | None = "model") -> Model | Program:
    """Returns what --against names: a .mcz file of a model, or with kind None of a program too.

    Raises UserError, FormatError.
    """
    path = existing(given)
    if path.suffix != ".mcz":
        raise UserError(f"--against must be a .mcz file, got {printable(path)}")
    return load(path, kind=kind)


def says(given: str | Path) -> bool:
    """Returns whether a file says what was done to its net's input: arrays that we wrote do."""
    return Path(given).suffix != ".safetensors" or noted(load_safetensors(given)) is not None


def assumed(given: str | Path, normalize: Statistics | None) -> str:
    """Returns the line that says which normalisation is assumed of a file of arrays."""
    return (f"{printable(given)} does not say how its input was normalised: assumed "
            f"{described(normalize)}; --normalize says otherwise")


def _of_arrays(path: Path, structure: str | None) -> Model:
    if structure is None:
        raise UserError(f"{printable(path)} holds arrays without a net: name it, --model lenet5")
    name, given = structure, {}
    if not is_file(structure):
        check_name(structure)
        name, given = named_net(structure)
    model = load(existing(name), kind="model").dense() if is_file(name) else None
    arrays = load_safetensors(path)
    notes = noted(arrays)
    if model is None and notes and notes.get("net", {}).get("builtin") == name:
        model = from_spec(notes["net"])
    elif model is None:
        matrices = [a for a in arrays.values() if a.ndim == 2]  # the last of a net has its classes
        classes = {"classes": min(len(matrices[-1]) or 1, 1000)} if matrices else {}
        model = MODELS[name](**classes | given)
    try:
        model.load_state_dict(arrays)
    except ValueError as e:
        raise UserError(f"{printable(path)} does not hold the weights of {printable(structure)}: "
                        f"{printable(e)}") from None
    if notes is not None:
        try:
            model = renormalized(model, notes["normalize"])
        except ValueError as e:
            raise UserError(f"{printable(path)} does not fit {printable(structure)}: "
                            f"{printable(e)}") from None
        model.trained_on = notes.get("data", model.trained_on)
    return model


def start(args, say, ending: str) -> tuple[str | Model, str, Path]:
    """Returns what a run starts from, the name by which recipes know it, and the file to write.

    args : with model, structure, out        say : takes a line of text
    ending : of the default name of what is made of a file, FILE-ending.mcz
    """
    if args.model is None or not is_file(args.model):
        text = options.default_model(say) if args.model is None else args.model
        name = built_in(text, args)
        return text, name, Path(args.out or f"{name}.mcz")
    path = existing(args.model)
    out = Path(args.out or f"{path.stem}-{ending}.mcz")
    model = opened(args.model, args, kind="model", say=say)
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


def shown(given: str) -> tuple[Shown, dict]:
    """Returns where the bytes of a .mcz file went, or of a .safetensors or .onnx file, whose arrays
    are the rows; and what the file says of the net: {"data", "normalize"}, where it does, and of a
    program: {"precision", "rounding"}."""
    path = existing(given)
    if path.suffix == ".onnx":
        return _arrays_shown(path, onnx_arrays(path)), {
            "normalize": normalization(imported(path, Screen().say))}
    if path.suffix == ".mcz":
        found = show(path)
        says = {"data": found.model.trained_on}
        if isinstance(found.model, Model):
            says["normalize"] = normalization(found.model)
        else:
            says["precision"] = found.model.precision
            says["rounding"] = (
                found.model.rounding if found.model.precision == "int8" else None)
        return found, says
    arrays = load_safetensors(path)
    return _arrays_shown(path, arrays), noted(arrays) or {}


def _arrays_shown(path: Path, arrays: dict[str, Array]) -> Shown:
    rows = [Row(printable(name, 100), "array", a.shape, a.size, str(a.dtype),
                {"values": float(a.nbytes)})
            for name, a in arrays.items()]
    size = path.stat().st_size
    taken = sum(a.nbytes for a in arrays.values())
    return Shown(size, 4 * sum(a.size for a in arrays.values()), rows, 0,
                 {"header": size - taken}, Model((), input_shape=(1,)))
