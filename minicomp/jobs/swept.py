"""What the lines of a sweep say: a row a setting, its seeds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..atomic import as_json
from ..comparison import Setting, interval, merged

ALSO = {"data": "data", "threads": "threads", "minicomp": "version"}  # named where they differ


def settings(lines: Sequence[Mapping], ms: Mapping[str, float] | None = None,
             energy: Mapping[str, float | None] | None = None) -> list[Setting]:
    """Returns a row for each setting of which a run did not fail, in the order of the lines.

    lines : of `sweep.lines`        ms, energy : of some runs, by their key
    """
    groups: dict[str, list[Mapping]] = {}
    for line in lines:
        if "error" not in line:
            groups.setdefault(_setting(line), []).append(line)
    names = titles([seeds[0] for seeds in groups.values()])
    return [merged([_row(line, name, (ms or {}).get(line["run"]), (energy or {}).get(line["run"]))
                    for line in seeds]) for name, seeds in zip(names, groups.values())]


def titles(lines: Sequence[Mapping]) -> list[str]:
    """Returns a name for each line: what was chosen in it, as far as choices differ."""
    chosen = [line["chosen"] | {name: f"{word}={line['settings'].get(name)}"
                                for name, word in ALSO.items()} for line in lines]
    names = list(dict.fromkeys(name for each in chosen for name in each))
    differ = [name for name in names if len({each.get(name) for each in chosen}) > 1]
    differ = differ or [name for name in names if name not in ALSO]
    return [", ".join(str(each[name]) for name in differ if name in each) for each in chosen]


def _setting(line: Mapping) -> str:
    # What runs of one setting share.
    return as_json({k: v for k, v in line["settings"].items() if k != "seed"}, sort_keys=True)


def _row(line: Mapping, name: str, ms: float | None, energy: float | None) -> Setting:
    return Setting(name, line["file_bytes"], line["dense_bytes"] / line["file_bytes"],
                   line["errors"], line["test_size"],
                   *interval(line["errors"], line["test_size"]), line["macs"],
                   line["effective_macs"], ms, energy,
                   val_error=line["val_errors"] / line["val_size"])
