"""During a graded call the library's own function refuses: "write this one yourself".

The code of the function is exchanged, not a name that refers to it, so every way to reach it
refuses. This is a reminder to the student, not a sandbox.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterable, Iterator
from types import FunctionType

from ...tensor import FusedPrimitive, Primitive


def _refuse(*args, **kw):
    raise RuntimeError(
        "write this one yourself"
    )  # builtins only: this runs with another module's globals


@contextlib.contextmanager
def refusing(names: Iterable[str]) -> Iterator[None]:
    """Within it the named functions raise RuntimeError(REFUSAL).

    names : "module:function", "module:Class" (its methods refuse) or "module:primitive" (its rules
    too)
    """
    undo: list = []
    try:
        for name in names:
            target = named(name)
            if isinstance(target, Primitive):
                undo.append((target, "rules", target.rules))
                target.rules = (
                    _refuse
                    if callable(target.rules)
                    else tuple(r and _refuse for r in target.rules)
                )
            for fn in functions(target):
                if fn.__code__.co_freevars:
                    raise ValueError(f"{name} is a closure and cannot refuse")
                undo.append((fn, "__code__", fn.__code__))
                fn.__code__ = _refuse.__code__
        yield
    finally:
        for owner, attribute, value in reversed(undo):
            setattr(owner, attribute, value)


def named(name: str):
    """Returns what "module:path" names."""
    module, _, path = name.partition(":")
    target = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    return target


def functions(target) -> list[FunctionType]:
    """Returns the functions that do the work of a function, a class or a primitive."""
    if isinstance(target, Primitive):
        fused = [target.backward, target.composite] if isinstance(target, FusedPrimitive) else []
        return [target.fn, *fused]
    if isinstance(target, type):
        own = [f for f in vars(target).values() if inspect.isfunction(f)]
        return [
            f for f in own if not f.__code__.co_freevars
        ]  # those with super() are reached through these
    return [inspect.unwrap(target)]
