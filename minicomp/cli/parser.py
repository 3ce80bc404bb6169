"""The parser of a command line, and what it says of words that it does not know."""

from __future__ import annotations

import argparse
import difflib
import re
import sys

from ..compress import TECHNIQUES
from ..compress.finetune import FineTune
from ..errors import did_you_mean, printable


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that names the command and the nearest word.

    Options are written in full: an abbreviation that is silently taken today may be that of two
    options tomorrow.
    """

    def __init__(self, **kw):
        super().__init__(**{"allow_abbrev": False} | kw)

    def error(self, message: str):
        """Exits with 2 after one line that names the mistake and where help is."""
        message = re.sub(r"^argument (\S+): invalid int value: ", r"\1 must be an integer, got ",
                         message)
        self.exit(2, f"{self.prog}: {printable(message, 600)}; see {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):
        """Returns what argparse returns; exits with 2 for a word too many, where it stands.

        argparse leaves such words to the outermost parser, which knows neither the command nor its
        options.
        """
        args = sys.argv[1:] if args is None else list(args)
        namespace, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left, args))
        return namespace, left

    def _check_value(self, action, value):
        if action.choices is None or value in action.choices:
            return
        option = next(iter(action.option_strings), None)
        name = f"unknown value of {option}" if option else "unknown command"
        raise argparse.ArgumentError(None, f"{name} {value!r}"
                                     + did_you_mean(str(value), action.choices).rstrip("?"))

    def _unknown(self, left: list[str], args: list[str]) -> str:
        # What is wrong with the words that nothing took, of which the first is spoken of.
        word = next((w for w in left if w.startswith("-") and len(w) > 1), None)
        if word is None:
            return f"{' '.join(left)!r} is more than it takes"
        option, equals, value = word.partition("=")
        if not equals:
            value = next(iter(args[args.index(word) + 1:]), "...")
        options = {o.lstrip("-"): o for o in self._option_string_actions if o.startswith("--")}
        said, name = f"unknown option {option}", option.lstrip("-")
        near = difflib.get_close_matches(name, options, n=2, cutoff=0.7)
        knob = name.replace("-", "_")
        owners = [t.word for t in (FineTune, *TECHNIQUES) if knob in t.knobs()]
        if not near and "set" in options and knob in FineTune.knobs():
            return f"{said}; a knob of the training is written --set {knob}={value}"
        if not near and "with" in options and owners:
            return f"{said}; a knob is written in its step, --with {owners[0]}:{knob}={value}"
        if near:
            return f"{said}; did you mean {' or '.join(options[n] for n in near)}"
        return f"{said}; there are {', '.join(options.values())}"
