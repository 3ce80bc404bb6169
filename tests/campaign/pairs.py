"""Two runs at once in one folder: each ends in its own result, or one is refused in a line."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from tests.campaign.frame import Failure
from tests.campaign.runs import Settings, begun, ended, plain, recipes, unbroken


def step(seed: int, folder: Path) -> dict[str, float]:
    """Starts two runs a moment apart, of the same or other settings, to the same file or two."""
    rng = random.Random(seed)
    command = rng.choice(["compress", "compress", "train"])
    first = Settings(command, rng.randrange(2), rng.choice([2, 4]))
    second = rng.choice([first, Settings(command, 1 - first.seed, first.bits),
                         Settings(command, first.seed, 6 - first.bits)])
    outs = rng.choice([("a", "a"), ("a", "a"), ("a", "b")])
    known = [unbroken(settings, folder) for settings in (first, second)]
    place = recipes(folder / "pair")
    for old in (*place.glob("a.*"), *place.glob("b.*")):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    words = [settings.words(out) for settings, out in zip((first, second), outs)]
    for i, mine in enumerate(words):  # results beside each other, even where the file is one
        mine[mine.index("--json") + 1] = f"a.{i}.json"
    processes = [begun(words[0], place)]
    time.sleep(rng.uniform(0, known[0][2]) * rng.choice([0, 0, 0.2, 0.8]))
    processes.append(begun(words[1], place))
    codes, said = zip(*map(ended, processes))
    about = f"{first} and {second} to {' and '.join(outs)}"
    if 0 not in codes or outs[0] != outs[1] and any(codes):
        raise Failure(f"{about}: ended with {codes}: {said[0]} | {said[1]}")
    for i, code in enumerate(codes):
        if code == 0 and plain(place / f"a.{i}.json") != known[i][1]:
            raise Failure(f"{about}: run {i + 1} prints a result that is not its own")
        if code and (code != 2 or "Traceback" in said[i] or not said[i]):
            raise Failure(f"{about}: run {i + 1} ended with {code}: {said[i]}")
    for i, out in enumerate(outs):
        own = [known[j][0] for j in range(2) if outs[j] == out and codes[j] == 0]
        if (place / f"{out}.mcz").read_bytes() not in own:
            raise Failure(f"{about}: {out}.mcz is nobody's result")
    return {"pairs": 1, "refused": sum(map(bool, codes))}
