"""What a notebook's cell finds beyond Python: `display`, `get_ipython()`, magics, commands.

A cell is graded by what its functions return. So here `display(w)` shows nothing, `!ls` runs
nothing, and both let the cell go on; `notebook.cells.plain` turns magics into these calls.
"""

from __future__ import annotations

from types import ModuleType


class _Nothing:
    # Can be called with anything, and has every part that somebody asks for.

    def __call__(self, *args, **kw):
        # display(..., display_id=True) gives what the display is changed by.
        return self if kw.get("display_id") else None

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return self


_nothing = _Nothing()


class Shell:
    """Stands for IPython's shell: every method there is takes anything and returns nothing, and so
    do those of its parts, as `events.register`, which Matplotlib calls at the first plot."""

    def __init__(self):
        self.user_ns: dict = {}

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing

    def getoutput(self, command: str = "", *args, **kw) -> list[str]:
        """Returns the lines that a command printed: none, as none runs."""
        return []


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
    has = {"display": found["IPython.display"], "version_info": (9, 0, 0), "__version__": "9.0.0"}
    found["IPython"].__dict__.update(names() | has)
    return found
