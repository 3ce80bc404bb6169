"""Results as they come, one signed line each: what an interrupted run is taken up from.

A result belongs to a file's contents, not to its name or student: names, the roster and the status
are made anew at every run. A line is signed with the course key, so nobody without it adds one; a
line that is damaged, or that the key did not sign, is dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path

from ... import __version__
from ...atomic import write_atomically
from .. import catalog
from .grade import Key, blank

MAX_LINE, MAX_LINES = 4 * 2**20, 100_000


class Journal:
    """The journal in a file; `dropped` lines were not what this key wrote.

    Lines of another lesson, notebook, version or key are no longer wanted and go silently.
    """

    def __init__(self, path: Path, of: catalog.LessonChecks, key: Key):
        self.path, self._key, self._blank = path, key.secret.encode(), blank(of)
        shipped = hashlib.sha256(catalog.notebook_path(of).read_bytes()).hexdigest()
        about = json.dumps([of.number, shipped, __version__])
        self._stamp = self._mac(about)[:16]
        self.rows: dict[str, dict] = {}
        self.dropped = 0
        lines = self._read()
        if len(lines) != len(self.rows) or not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, b"".join(map(self._line, self.rows.values())))

    def get(self, sha256: str) -> dict | None:
        """Returns the result of a file's contents, or None."""
        row = self.rows.get(sha256)
        return json.loads(json.dumps(row)) if row else None

    def add(self, row: dict) -> None:
        """Adds a result to the file."""
        with open(self.path, "ab") as f:
            f.write(self._line(row))
            f.flush()
            os.fsync(f.fileno())
        self.rows[row["sha256"]] = row

    def _read(self) -> list[bytes]:
        lines = []
        if self.path.is_file():
            with open(self.path, "rb") as f:
                while len(lines) < MAX_LINES and (line := f.readline(MAX_LINE)):
                    lines.append(line)
        for line in lines:
            row = self._row(line)
            if row is not None:
                self.rows[row["sha256"]] = row
        return lines

    def _row(self, line: bytes) -> dict | None:
        try:
            kept = json.loads(line)
            if kept["stamp"] != self._stamp:
                return None
            row = kept["row"]
            right = hmac.compare_digest(kept["mac"], self._mac(self._stamp + _text(row)))
            if right and set(row) == set(self._blank) and isinstance(row["sha256"], str):
                return row
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        self.dropped += 1
        return None

    def _line(self, row: dict) -> bytes:
        kept = {"stamp": self._stamp, "mac": self._mac(self._stamp + _text(row)), "row": row}
        return json.dumps(kept).encode() + b"\n"

    def _mac(self, text: str) -> str:
        secret = hashlib.sha256(b"minicomp journal\n" + self._key).digest()
        return hmac.new(secret, text.encode(), "sha256").hexdigest()


def _text(row: dict) -> str:
    return json.dumps(row, sort_keys=True)
