"""What a notebook's cell finds beyond Python: `display`, `get_ipython()`, magics, commands.

A cell is graded by what its functions return. So here `display(w)` shows nothing, `!ls` runs
nothing, and both let the cell go on; `notebook.cells.plain` turns magics into these calls.
"""

from __future__ import annotations

from types import ModuleType


class Shell:
    """Stands for IPython's shell: every method there is takes anything and returns nothing."""

    def __init__(self):
        self.user_ns: dict = {}

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing

    def getoutput(self, command: str = "", *args, **kw) -> list[str]:
        """Returns the lines that a command printed: none, as none runs."""
        return []


def _nothing(*args, **kw) -> None:
    return None


class _Module(ModuleType):
    # Whatever is imported from it shows nothing.
    __path__: list = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


_SHELL = Shell()


def names() -> dict:
    """Returns what every cell sees of IPython, by name."""
    return {"display": _nothing, "get_ipython": lambda: _SHELL}


def modules() -> dict[str, ModuleType]:
    """Returns modules by name that stand for IPython's, which need not be installed."""
    found = {name: _Module(name) for name in ("IPython", "IPython.display")}
    found["IPython"].__dict__.update(names() | {"display": found["IPython.display"]})
    return found
