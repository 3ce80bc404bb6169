"""Runs that are killed at any moment and taken up: they end in the bits of an unbroken one."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from pathlib import Path

from tests.campaign.frame import Failure
from tests.campaign.runs import Settings, begun, ended, plain, recipes, unbroken


def step(seed: int, folder: Path) -> dict[str, float]:
    """Kills a run one to three times, then lets it end."""
    rng = random.Random(seed)
    settings = Settings(rng.choice(["compress", "train"]), rng.randrange(2))
    expected, result, seconds = unbroken(settings, folder)
    place = recipes(folder / "killed")
    for old in place.glob("a.*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    found = {"kills": 0, "ended before": 0}
    for _ in range(rng.choice([1, 1, 2, 3])):
        process = begun(settings.words("a"), place)
        with contextlib.suppress(subprocess.TimeoutExpired):
            said = process.communicate(timeout=rng.uniform(0.0, seconds))[1]
            if process.returncode:
                raise Failure(f"a run that was taken up ended with {process.returncode}: "
                              f"{said[-500:]}")
            found["ended before"] += 1
            break
        process.kill()  # this process alone, by its handle: SIGKILL on POSIX
        process.communicate()
        found["kills"] += 1
    code, said = ended(begun(settings.words("a"), place))
    if code:
        raise Failure(f"after {found['kills']} kills the same command ended with {code}: {said}")
    if (place / "a.mcz").read_bytes() != expected:
        raise Failure(f"after {found['kills']} kills {settings} ends in another file")
    if plain(place / "a.json") != result:
        raise Failure(f"after {found['kills']} kills {settings} ends in another result")
    left = sorted(p.name for p in place.iterdir() if p.name not in
                  ("a.mcz", "a.json", "bits2.toml", "bits4.toml"))
    if left:
        raise Failure(f"after {found['kills']} kills and the end there is {', '.join(left)}")
    return found
