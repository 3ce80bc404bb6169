"""Architecture searches in an enumerated space, small LeNets on MNIST.

All 384 nets of `lenets` are trained with three seeds, 10,000 images each seen once. So it is known
which net under `LIMIT` errs least on validation images, the mean of its trainings, and what each
search finds can be compared with it (Real et al. 2019, arXiv 1802.01548; Cai et al. 2020, arXiv
1908.09791; random search as Li & Talwalkar 2019, arXiv 1902.07638, ask for it).

A search pays for every training, and for every look at validation images; what it may spend is a
part of what the enumeration takes, 3 x 384 trainings, in multiplications. (Nets over the limit come
last; where a journal lacks some, they lack in the picture alone.) A search sees one training of a
net, noise and all. `ofa` trains one supernet of the nets under the limit, looks at each of these
with 1,000 validation images, and trains them in the order found while it can pay.

DARTS has its own space, `cells`, of 25 nets, enumerated likewise; it is met where it comes half as
near to the best as a net drawn. As Zela et al. 2020 (arXiv 1909.09656) found, alpha goes to where
nothing is learnt, "skip", in a training as short as this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..data import Dataset
from ..errors import UserError
from ..nn.graph import Model
from ..optim import Adam, cosine
from ..report import plots
from ..report.search_plots import plot_searches
from ..search import (Limit, Space, Supernet, cell, cells, darts, evolve, lenets, random_search)
from ..train import evaluate, fit
from .enumerated import Enumerated, Seen, Winner, in_order, interval, kendall
from .journal import Journal
from .table import Paper, mean

IMAGES, BATCH, LR = 10_000, 50, 0.012  # of a training: each image is seen once
VALIDATED, TESTED = 5000, 10_000  # images of MNIST's splits
LIMIT = Limit(bytes=6000)  # of a file with 8 bits a weight: about half of the nets keep it
RUNS = 20  # of each search
MANY = 200  # runs by which it is decided whether one beats random search
SUPERNET = {"epochs": 2, "lr": 0.006}
LOOKS = 1000  # validation images by which a supernet ranks
EVOLUTION = {"population": 8, "sample": 6}
PARTS = (1, 2, 5)  # percent of the enumeration's cost at which searches are compared
DECIDES = 2  # percent at which a search must beat random search


def code_of(space: Space, choice) -> str:
    """Returns a net's code as the name of its arm: "012100"."""
    return "".join(map(str, space.encode(choice)))


def few(data: Dataset) -> Dataset:
    """Returns the data with the images that a training sees."""
    return replace(data, train=data.train.take(slice(IMAGES)))


def trained(model: Model, data: Dataset, rng: np.random.Generator) -> dict:
    """Returns the errors of a net on validation and test images after its training, in place."""
    history = fit(model, few(data.without_test()), epochs=1, rng=rng, batch_size=BATCH,
                  optimizer=Adam(model.parameters(), lr=LR), schedule=cosine())
    return {"val": history[-1]["val_errors"], "test": evaluate(model, data.test).errors}


def enumerate_nets(space: Space, data: Dataset, seed: int, journal: Journal, log,
                   prefix: str = "") -> None:
    """Trains every net of a space with a seed, unless the journal knows it."""
    for done, choice in enumerate(space, start=1):
        arm, rng = prefix + code_of(space, choice), np.random.default_rng(
            [seed, *space.encode(choice)])
        if journal.get(arm, seed) is None:
            journal.take(arm, seed, lambda: trained(space.build(choice, rng=rng), data, rng))
        log({"event": "progress", "name": f"nets, seed {seed}", "done": done, "total": space.size})


def costs(space: Space) -> dict:
    """Returns bytes and multiplications of every net, in the order of the space."""
    return {kind: [int(space.cost(kind, choice)) for choice in space] for kind in ("bytes", "macs")}


def supernet(space: Space, data: Dataset, i: int) -> dict:
    """Returns the errors of the nets of a space on the first `LOOKS` validation images, as slices
    of one supernet, the i-th; and its training's multiplications, forward alone."""
    rng = np.random.default_rng([1000, i])
    net, look = Supernet(space, rng=rng), data.val.take(slice(LOOKS))
    hook = net.train(replace(few(data), val=look, test=None), batch_size=BATCH, rng=rng, **SUPERNET)
    return {"errors": [round(net.error(choice, look) * LOOKS) for choice in space],
            "macs": hook.macs}


def darts_found(data: Dataset, seed: int, order: int) -> dict:
    """Returns the code of the net that DARTS names in `cells`, and its passes."""
    rng, space = np.random.default_rng([seed, order]), cells()
    found = darts(space, cell(rng=rng), few(data.without_test()), order=order, rng=rng)
    return {"choice": code_of(space, found.choice), "passes": found.passes}


def run(data, *, seeds, log, n_threads, out, journal) -> None:
    """Finds the arms: costs, every net, supernets, cells, DARTS; draws the searches into `out`."""
    if len(seeds) < 2:
        raise UserError(f"--seeds must be at least 2 for the table search, got {len(seeds)}")
    space = lenets()
    known = journal.take("costs", None, lambda: costs(space))
    for some in (limited(known), space):  # searches need no others than the first
        for seed in seeds:
            enumerate_nets(some, data, seed, journal, log)
    for i in range(RUNS):
        if journal.get(f"supernet-{i}") is None:
            journal.take(f"supernet-{i}", None, lambda: supernet(limited(known), data, i))
        log({"event": "progress", "name": "supernets", "done": i + 1, "total": RUNS})
    for seed in seeds:
        enumerate_nets(cells(), data, seed, journal, log, "cell-")
        for order in (1, 2):
            journal.take(f"darts-{order}", seed, partial(darts_found, data, seed, order))
    lines = [line for line in journal.lines if line["seed"] in (None, *seeds)]
    plots.save(picture(lines), out / "search.png")


def limited(known: dict) -> Space:
    """Returns the LeNets under the limit, with costs that are known."""
    space = lenets()
    for kind in ("bytes", "macs"):
        space.known.update(
            {(kind, space.encode(choice)): cost for choice, cost in zip(space, known[kind])})
    return space.under(LIMIT)


def enumerated(lines: Sequence[dict], space: Space, macs: Sequence[int],
               prefix: str = "") -> Enumerated:
    """Returns the table of a space from a journal's lines.

    macs : of every net, in the order of the space without its limit
    """
    arms = [prefix + code_of(space, choice) for choice in space.under(Limit())]
    found = {(line["arm"], line["seed"]): line for line in lines}
    seeds = sorted({seed for arm, seed in found if arm in arms})
    val, test = (np.array([[100 * found[arm, seed][split] / size if (arm, seed) in found else np.nan
                            for seed in seeds] for arm in arms])
                 for split, size in (("val", VALIDATED), ("test", TESTED)))
    made = Enumerated(space, val, test, np.array(macs, np.float64), IMAGES, VALIDATED)
    if np.isnan(val[made.admitted]).any():
        raise UserError("a journal must hold every net under the limit with every seed, got "
                        f"{np.isnan(val[made.admitted]).sum()} missing; run the table to go on")
    return made


def lenet_table(lines: Sequence[dict]) -> Enumerated:
    """Returns the table of the LeNets under the limit from a journal's lines."""
    known = next(line for line in lines if line["arm"] == "costs")
    return enumerated(lines, limited(known), known["macs"])


def supernets_of(lines: Sequence[dict]) -> list[dict]:
    """Returns the lines of the supernets; UserError where there are fewer than two."""
    found = [line for line in lines if line["arm"].startswith("supernet-")]
    if len(found) < 2:
        raise UserError(f"a journal must hold at least two supernets, got {len(found)}; run the "
                        "table to go on")
    return found


def searches(nets: Enumerated, lines: Sequence[dict], *, runs: int,
             most: float) -> dict[str, list[Seen]]:
    """Returns what each search tried in each of its runs, up to `most` percent of the cost.

    Run i of `ofa` has supernet i modulo their number; what it trains is drawn anew.
    """
    supernets = supernets_of(lines)
    ways: dict[str, Callable] = {
        "random": random_search, "evolution": partial(evolve, **EVOLUTION)}
    found: dict[str, list[Seen]] = {name: [] for name in (*ways, "ofa")}
    for i in range(runs):
        for k, (name, search) in enumerate(ways.items()):
            rng = np.random.default_rng([2000, k, i])
            found[name].append(trials := nets.trials(most, rng=rng))
            search(nets.space, trials, rng=rng)
        found["ofa"].append(ofa(nets, supernets[i % len(supernets)], most,
                                rng=np.random.default_rng([2000, 2, i])))
    return found


def ofa(nets: Enumerated, net: dict, most: float, *, rng: np.random.Generator) -> Seen:
    """Returns what is tried in the order of a supernet, whose training and looks are paid first."""
    choices = list(nets.space)
    paid = 3 * net["macs"] + LOOKS * float(nets.macs[nets.admitted].sum())
    trials = nets.trials(most, rng=rng, spent=100 * paid / nets.total)
    in_order(trials, [choices[k] for k in np.argsort(net["errors"], kind="stable")])
    return trials


def table(lines: list[dict]) -> list[dict]:
    """Returns the rows of a journal's lines."""
    nets = lenet_table(lines)
    found = searches(nets, lines, runs=RUNS, most=max(PARTS))
    many = searches(nets, lines, runs=MANY, most=DECIDES)
    seconds = sum(line["seconds"] for line in lines)
    return [optimum_row(nets, seconds),
            *(search_row(nets, found, many, name) for name in ("random", "evolution")),
            ofa_row(nets, found, many, len(supernets_of(lines))),
            tau_row(nets, lines), *darts_rows(lines)]


def optimum_row(nets: Enumerated, seconds: float) -> dict:
    """Returns the row of the best net under the limit."""
    i, n, (every, seeds) = nets.best, len(nets.admitted), nets.val.shape
    spread = np.median(nets.val[nets.admitted].std(axis=1, ddof=1))
    choice = nets.space.decode(list(nets.order)[i])
    there = int(np.isfinite(nets.val).sum())
    return {
        "row": f"the best of {n} nets under {LIMIT.bytes:,} bytes, among {every}",
        "paper": "-",
        "ours": f"{nets.val[i].mean():.2f} %, test {nets.test[i].mean():.2f} %: "
                f"{nets.space.name(choice)}; a training moves a net by {spread:.2f}; "
                f"{there:,} of {seeds * every:,} trainings",
        "met": seeds >= 3, "seconds": seconds,
        "val": nets.val[i].tolist(), "test": nets.test[i].tolist(), "choice": choice,
    }


def distances(nets: Enumerated, runs: Sequence[Seen], part: float,
              split: str = "val") -> list[float]:
    """Returns how far each run's winner is from the optimum when `part` percent are spent, points;
    as the mean of a net's trainings; a run without a winner is left out."""
    least = float(getattr(nets, split)[nets.admitted].mean(axis=1).min())
    winners = [nets.winner(seen, part) for seen in runs]
    return [getattr(w, split) - least for w in winners if w is not None]


def search_row(nets: Enumerated, found: dict[str, list[Seen]], many: dict[str, list[Seen]],
               name: str, groups: int | None = None) -> dict:
    """Returns the row of a search: distance to the optimum, the gap of its winner, and by how much
    it beats random search.

    groups : of runs that are not independent, run i belongs to group i modulo groups
    """
    runs, said, numbers = found[name], [], {}
    for part in PARTS:
        far, test = (distances(nets, runs, part, split) for split in ("val", "test"))
        numbers[f"{part} %"] = {"val": far, "test": test}
        said.append(f"{mean(far):.2f} (test {mean(test):.2f})" if len(far) == RUNS else "-")
    won: list[Winner] = [w for seen in runs if (w := nets.winner(seen, DECIDES)) is not None]
    gap, luck = mean([w.same - w.seen for w in won]), mean([w.others - w.seen for w in won])
    row = {"row": f"{name}: points above the best at {', '.join(map(str, PARTS))} % of the cost",
           "paper": "-", "met": True,
           "ours": f"{', '.join(said)}; winner: gap to test {gap:.2f}, luck {luck:.2f}",
           "seconds": 0.0, "distances": numbers, "gap": gap, "luck": luck,
           "trainings": mean([len(seen.rows) for seen in runs])}
    if name == "random":
        return row
    few, more = (beats(nets, of, name, groups) for of in (found, many))
    told = [f"{d:.2f} ({low:.2f}..{high:.2f})" for d, low, high in (few, more)]
    return row | {"paper": "beats random", "met": few[0] > 0 and more[1] > 0,
                  "ours": f"{row['ours']}; beats random at {DECIDES} % by {told[0]}, in "
                          f"{len(many[name])} runs {told[1]}", "beats": few, "beats many": more}


def ofa_row(nets: Enumerated, found: dict[str, list[Seen]], many: dict[str, list[Seen]],
            supernets: int) -> dict:
    """Returns the row of once-for-all, met with all `RUNS` supernets only."""
    row = search_row(nets, found, many, "ofa", supernets)
    return row | {"met": row["met"] and supernets >= RUNS,
                  "ours": f"{row['ours']}; {supernets} supernets"}


def beats(nets: Enumerated, found: dict[str, list[Seen]], name: str,
          groups: int | None = None) -> tuple[float, float, float]:
    """Returns by how much a search beats random search at `DECIDES` percent, points, with the ends
    of the 95 % interval; the runs of a group count as one."""
    far = [np.array(distances(nets, found[of], DECIDES)) for of in ("random", name)]
    if len(far[1]) < len(far[0]):  # some had no winner yet
        return -np.inf, -np.inf, -np.inf
    d = far[0] - far[1]
    return interval(d if groups is None else [float(d[k::groups].mean()) for k in range(groups)])


def tau_row(nets: Enumerated, lines: Sequence[dict]) -> dict:
    """Returns the row of Kendall's tau: supernets against trained nets, and these against
    themselves, one training against the mean of the others."""
    truth = nets.val[nets.admitted]
    taus = [kendall(np.array(line["errors"]), truth.mean(axis=1))
            for line in lines if line["arm"].startswith("supernet-")]
    seeds = range(truth.shape[1])
    own = mean([kendall(truth[:, s], np.delete(truth, s, axis=1).mean(axis=1)) for s in seeds])
    return {"row": f"Kendall's tau under the limit, {len(taus)} supernets against trained nets",
            "paper": "-", "ours": f"{mean(taus):.2f} ({min(taus):.2f}..{max(taus):.2f}); "
                                  f"one training against the others {own:.2f}",
            "met": mean(taus) > 0, "seconds": 0.0, "tau": taus, "own": own}


def darts_rows(lines: Sequence[dict]) -> list[dict]:
    """Returns the row of DARTS in its own space; none where nothing of it was found."""
    if not any(line["arm"].startswith("darts-") for line in lines):
        return []
    space, mixed = cells(), cell()
    nets = enumerated(lines, space, [int(space.cost("macs", choice)) for choice in space], "cell-")
    means, said, numbers = nets.val.mean(axis=1), [], {}
    for order in (1, 2):
        found = [line for line in lines if line["arm"] == f"darts-{order}"]
        far = [float(means[nets.order[tuple(map(int, line["choice"]))]] - means.min())
               for line in found]
        cost = 100 * 3 * mixed.macs() * mean([line["passes"] for line in found]) / nets.total
        numbers[order] = {"val": far, "cost": cost}
        names = {space.name(space.decode(tuple(map(int, line["choice"])))) for line in found}
        said.append(f"order {order}: {mean(far):.2f} ({min(far):.2f}..{max(far):.2f}) at "
                    f"{cost:.1f} %, {' or '.join(sorted(names))}")
    drawn = float(means.mean() - means.min())
    return [{"row": f"DARTS among {space.size} cells: points above the best",
             "paper": "half of a net drawn",
             "ours": f"{'; '.join(said)}; a net drawn: {drawn:.2f}",
             "met": mean(numbers[2]["val"]) <= drawn / 2, "seconds": 0.0, "orders": numbers}]


def picture(lines: Sequence[dict]):
    """Returns the axes of the searches' best so far, and of all nets beside their true front."""
    nets = lenet_table(lines)
    grid = np.linspace(0.05, max(PARTS), 100)
    runs = {name: np.array([[w.val if (w := nets.winner(seen, part)) else np.nan for part in grid]
                            for seen in found])
            for name, found in searches(nets, lines, runs=RUNS, most=max(PARTS)).items()}
    sizes = np.array([nets.space.cost("bytes", choice) for choice in nets.space.under(Limit())])
    there = np.isfinite(nets.val).all(axis=1)
    return plot_searches(grid, runs, sizes[there], nets.val[there].mean(axis=1),
                         limit=LIMIT.bytes, best=float(nets.val[nets.best].mean()))


PAPER = Paper("search", "Architecture searches in an enumerated space of small LeNets", "mnist",
              "20 minutes with --seeds 3, the number that it takes", run,
              "errors in %, the mean of a net's three trainings; costs in % of the enumeration's "
              "multiplications", table)
