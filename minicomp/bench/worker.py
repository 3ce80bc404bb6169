"""One side of `minicomp bench --against`: runs a benchmark when asked, and says how long it took.

It is run as a script by the Python of any minicomp from commit 7442089 on, whose API differs, so it
asks for what it needs and takes what there is. A request is a line, its answer a line of JSON:

    about        {"version": ..., "path": ...}
    make NAME    {} or {"missing": why}; the benchmark has run once then
    run NAME     {"cpu": seconds, "wall": seconds} of one run
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

BATCH = 64
STEPS = {"lenet300": 100, "lenet5": 10}  # of an epoch
RATE = {False: 0.01, True: 1e-7}  # learning rate; a shared weight's gradient is a sum of thousands


def dataset(n: int):
    """Returns n random pictures of the size of MNIST's."""
    from minicomp.data.dataset import Dataset, Split

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, n)
    classes = tuple("0123456789")
    return Dataset("random", Split(x, y), Split(x[:1], y[:1]), None, classes, "generated")


def applied(technique, model, data):
    """Returns the model that a technique makes, by either way to call one."""
    rng = np.random.default_rng(0)
    try:
        from minicomp.compress.technique import Run
    except ImportError:
        return technique.apply(model, data, rng=rng)
    return technique.apply(model, data, Run(rng))


def net(name: str, *, shared: bool = False):
    """Returns a net with random weights, shared by 6 bits if wanted."""
    from minicomp.compress.share.kmeans import KMeans
    from minicomp.models import MODELS

    model = MODELS[name](rng=np.random.default_rng(0))
    if not shared:
        return model
    shared = applied(KMeans(bits=6), model, dataset(BATCH))
    return shared.thawed() if hasattr(shared, "thawed") else shared.copy()


def training(name: str, n_threads: int, shared: bool = False) -> Callable[[], object]:
    """Returns an epoch of training a net, or its centroids."""
    from minicomp.optim import SGD
    from minicomp.train import fit

    model, data = net(name, shared=shared), dataset(BATCH * STEPS[name])
    rng = np.random.default_rng(0)
    optimizer = SGD(model.parameters(), lr=RATE[shared], momentum=0.9, weight_decay=1e-4)
    return lambda: fit(
        model, data, epochs=1, optimizer=optimizer, rng=rng, batch_size=BATCH, n_threads=n_threads
    )


def pruning(module: str, name: str) -> Callable[[], object]:
    """Returns the pruning of half of LeNet-5, all layers, by a layer-wise method."""
    import importlib

    from threadpoolctl import threadpool_limits

    technique = getattr(importlib.import_module(f"minicomp.compress.prune.{module}"), name)
    model, data = net("lenet5"), dataset(512)

    def run():
        with threadpool_limits(1):
            return applied(technique(sparsity=0.5), model, data)

    return run


def command() -> Callable[[], object]:
    """Returns the whole of `minicomp compress --fast`, on generated glyphs."""
    words = "compress lenet5 --fast --data glyphs --no-report --threads 1 --out net.mcz"
    words = [sys.executable, "-P", "-m", "minicomp", *words.split()]

    def run():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(words, cwd=folder, check=True, capture_output=True)

    return run


BENCHES: dict[str, Callable[[], Callable[[], object]]] = {
    "lenet300": lambda: training("lenet300", 1),
    "lenet300-shared": lambda: training("lenet300", 1, shared=True),
    "lenet5": lambda: training("lenet5", 1),
    "lenet5-threads": lambda: training("lenet5", 2),
    "lenet5-shared-threads": lambda: training("lenet5", 2, shared=True),
    "sparsegpt": lambda: pruning("sparsegpt", "SparseGPT"),
    "obc": lambda: pruning("obc", "OBC"),
    "compress": command,
}


def about() -> dict:
    """Returns which minicomp this is."""
    import minicomp

    return {"version": minicomp.__version__, "path": os.path.dirname(minicomp.__file__)}


def answer(request: str, made: dict[str, Callable[[], object]]) -> dict:
    """Returns the answer to a request; made: the benchmarks that are ready, by name."""
    verb, _, name = request.partition(" ")
    if verb == "about":
        return about()
    if verb == "make":
        try:
            if name in made:
                return {}
            made[name] = BENCHES[name]()
            made[name]()
        except (ImportError, AttributeError, KeyError, TypeError) as e:
            return {"missing": f"{type(e).__name__}: {e}"}
        return {}
    cpu, wall = processor_time(), time.perf_counter()
    made[name]()
    return {"cpu": processor_time() - cpu, "wall": time.perf_counter() - wall}


def processor_time() -> float:
    """Returns the seconds that this process and those it waited for have worked."""
    of = os.times()
    return time.process_time() + of.children_user + of.children_system


def main() -> None:
    """Answers requests until there are no more; whatever else prints goes to the error stream."""
    replies, sys.stdout = sys.stdout, sys.stderr
    made: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        replies.write(json.dumps(answer(line.strip(), made)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
