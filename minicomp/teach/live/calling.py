"""Calling a student's function once: its value or how the call failed, and how long it may take."""

from __future__ import annotations

import contextlib
import signal
import traceback

from ...reference.judges import copied, unchanged
from ..asking.exercise import REFUSAL
from . import wire

MESSAGE_CHARS = 300


class TimeUp(BaseException):
    """A cell or a call took too long; not an Exception, so that `except Exception` lets it pass."""


def one_answer(fn, call: dict, seconds: float = 0, slack: float = 1) -> list:
    """Returns [kind, value, text] of fn(*call.values()): "value", or how the call failed.

    Kind "changed" is a value too: the function wrote to the arguments that `text` names.
    seconds : of processor time, 0 for no limit        slack : see `clock`
    """
    try:
        before = copied(call)
        with clock(seconds, slack):
            value = fn(*call.values())
        wire.pack(value)
        changed = [name for name in call if not unchanged(before[name], call[name])]
        return ["changed" if changed else "value", value, ", ".join(changed)]
    except TimeUp:
        return ["slow", None, f"stopped after {seconds:g} s"]
    except NotImplementedError:
        return ["not-written", None, ""]
    except wire.WireError as e:
        return ["odd", None, str(e)[:MESSAGE_CHARS]]
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt) and not seconds:  # in a notebook: the user's own
            raise
        text = explain(e)
        return ["refused" if REFUSAL in text else "raised", None, text]


def explain(e: BaseException) -> str:
    """Returns "NameError: name 'np' is not defined (line 3)": the last line in the cell."""
    try:
        frames = traceback.extract_tb(e.__traceback__)[1:]  # after ours
        cells = [f.filename for f in frames if f.filename.startswith("<cell")]
        where = (cells or [f.filename for f in frames] or [""])[0]
        lines = [f.lineno for f in frames if f.filename == where]
        if isinstance(e, SyntaxError):
            lines, text = [e.lineno], e.msg
        else:
            text = str(e)
        line = f" (line {lines[-1]})" if lines else ""
    except Exception:  # an exception of the student's own that cannot be shown
        line, text = "", ""
    return f"{type(e).__name__}: {' '.join(text.split())}"[:MESSAGE_CHARS] + line


@contextlib.contextmanager
def clock(seconds: float, slack: float):
    """Raises TimeUp in the running code after so many seconds of processor time, and again every
    half second until it stops; 0 sets no limit.

    What only waits is stopped by the clock on the wall, at twice the seconds times `slack`: how
    much slower than its processor time this process runs.
    """
    if not seconds or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(signum, frame):
        raise TimeUp

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.5)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds * slack, 0.5)
    try:
        yield
    finally:
        _stop_clock()


def _stop_clock() -> None:
    try:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:  # it rang on the way here
        _stop_clock()
