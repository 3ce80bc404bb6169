"""Small runs of the command line for the parts that kill them or start two at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.frame import Failure

RECIPE = """
[train]
epochs = 1
[[step]]
technique = "magnitude"
sparsity = 0.8
[[step]]
technique = "finetune"
epochs = 2
[[step]]
technique = "kmeans"
bits = BITS
"""
COMMON = ("--data", "glyphs", "--threads", "1")


@dataclass(frozen=True)
class Settings:
    """Of a run: what it does, its seed, and the bits of its last step."""

    command: str
    seed: int
    bits: int = 4

    def words(self, out: str) -> list[str]:
        """Returns the words of the command line that writes `out`.mcz and its result, `out`.json;
        they are run in a folder in which `recipes` was called."""
        mine = (["compress", "lenet300", "--recipe", f"bits{self.bits}.toml", "--no-report"]
                if self.command == "compress" else ["train", "lenet300", "--set", "epochs=3"])
        return [*mine, *COMMON, "--seed", str(self.seed), "--out", f"{out}.mcz",
                "--json", f"{out}.json"]


def recipes(folder: Path) -> Path:
    """Makes a folder in which runs can be started, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for bits in (2, 4):
        (folder / f"bits{bits}.toml").write_text(RECIPE.replace("BITS", str(bits)))
    return folder


def begun(words: list[str], folder: Path) -> subprocess.Popen:
    """Starts a command in a folder; its errors can be read from the pipe."""
    return subprocess.Popen([sys.executable, "-m", "minicomp", *words], cwd=folder,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, errors="replace")


def ended(process: subprocess.Popen, seconds: float = 300.0) -> tuple[int, str]:
    """Returns the exit code of a run and what it said; Failure where it does not end."""
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failure(f"a run does not end within {seconds:.0f} s: {process.args}") from None
    return process.returncode, said.strip()[-500:]


def plain(result: Path) -> dict:
    """Returns what a run wrote as its result, but for the seconds and the names of its files."""

    def without(value):
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if "seconds" not in k
                    and not k.startswith("ms") and k not in ("file", "log")}
        return [without(v) for v in value] if isinstance(value, list) else value

    return without(json.loads(result.read_text(encoding="utf-8")))


def unbroken(settings: Settings, folder: Path) -> tuple[bytes, dict, float]:
    """Returns file, result and seconds of a run that nobody disturbs; made once in a folder."""
    name = f"{settings.command}-{settings.seed}-{settings.bits}"
    kept, taken = recipes(folder / "unbroken"), folder / "unbroken" / f"{name}.seconds"
    if not taken.exists():
        start = time.monotonic()
        code, said = ended(begun(settings.words(name), kept))
        if code:
            raise Failure(f"an undisturbed run ended with {code}: {said}")
        taken.write_text(str(time.monotonic() - start))
    return ((kept / f"{name}.mcz").read_bytes(), plain(kept / f"{name}.json"),
            float(taken.read_text()))
