"""Races of training and of the import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from ..data.dataset import Split
from ..kernels.layout import as_nhwc
from ..kernels.threads import blas
from ..models import MODELS
from ..optim import SGD
from ..train import fit
from .eager import eager
from .race import Log, Row, peer_module, race, row

# Nets, batch, batches of an epoch, part of a race's time
TRAININGS = (("lenet300", 64, 100, 3), ("lenet5", 64, 10, 3), ("lenet5", 256, 4, 3),
             ("depthwise32", 64, 40, 3), ("mobilenetv2", 64, 1, 8))
DEPTHWISE = ("depthwise32", "mobilenetv2")
THREADED = (("lenet5", 64, 40), ("lenet5", 256, 10), ("depthwise32", 64, 20),
            ("mobilenetv2", 64, 4))


class Pictures:
    """Random pictures of a net's input shape, as the `train` and `val` that `fit` asks for.

    Ours lie channels-last from the start, as each peer's lie as it wants them: a training turns
    them once, not each epoch.
    """

    def __init__(self, n: int, shape: tuple[int, ...], rng: np.random.Generator):
        x, y = rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, 10, n)
        x = as_nhwc(x) if x.ndim == 4 else x
        self.train, self.val = Split(x, y), Split(x[:1], y[:1])


def _pictures(name: str, n: int) -> Pictures:
    return Pictures(n, MODELS[name]().input_shape, np.random.default_rng(0))


def _train_ours(name: str, batch: int, data: Pictures, n_threads: int = 1) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    model = MODELS[name](rng=rng)
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return lambda: fit(
        model, data, epochs=1, optimizer=optimizer, rng=rng, batch_size=batch, n_threads=n_threads
    )


def _train_torch(torch, name: str, batch: int, data: Pictures,
                 last: bool = False) -> Callable[[], object]:
    # last : whether maps lie channels-last
    torch.set_num_threads(1)
    lies = {"memory_format": torch.channels_last if last else torch.contiguous_format}
    model, loss = eager(torch, MODELS[name]()).to(**lies), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    x, y = torch.from_numpy(data.train.x).contiguous(**lies), torch.from_numpy(data.train.y)

    def epoch():
        order = torch.randperm(len(y))
        for i in range(0, len(y), batch):
            rows = order[i : i + batch]
            optimizer.zero_grad()
            value = loss(model(x[rows].contiguous(**lies)), y[rows])
            value.backward()
            optimizer.step()
            value.item()

    return epoch


def trainings(peers: bool, log: Log) -> Iterator[Row]:
    """Yields training beside PyTorch, eager: NCHW, and channels-last of nets of depthwise
    convolutions."""
    torch = peer_module("torch", peers, log)
    if torch is None:
        log(
            {
                "event": "say",
                "text": "bench training: the peer is torch; --peers runs it where it is installed",
            }
        )
        return
    for name, batch, steps, part in TRAININGS:
        data = _pictures(name, batch * steps)
        nchw, nhwc = "torch eager", "torch eager, channels_last"
        contestants = {"ours": _train_ours(name, batch, data),
                       nchw: _train_torch(torch, name, batch, data)}
        if name in DEPTHWISE:
            contestants[nhwc] = _train_torch(torch, name, batch, data, last=True)
        times = race(contestants, part=part)
        for peer in list(contestants)[1:]:
            note = "NCHW, SGD with momentum" if peer == nchw else "SGD with momentum"
            yield row(f"training {name}", f"batch {batch}", times, peer, note, unit="images/s",
                      work=batch * steps)


def threads(peers: bool, log: Log) -> Iterator[Row]:
    """Yields training in two threads beside one."""
    for name, batch, steps in THREADED:  # so many that what a call of fit costs is little
        data = _pictures(name, batch * steps)
        with blas(2):
            times = race(
                {
                    "ours": _train_ours(name, batch, data, 2),
                    "one thread": _train_ours(name, batch, data, 1),
                },
                part=4,
                clock=time.perf_counter,
            )
        yield row(
            f"two threads, training {name}",
            f"batch {batch}",
            times,
            "one thread",
            "wall clock; means something only on an idle machine",
            unit="images/s",
            work=batch * steps,
        )


def importing(peers: bool, log: Log) -> Iterator[Row]:
    """Yields the time to import minicomp beside NumPy alone."""
    code = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
    times: dict[str, list[float]] = {"minicomp": [], "numpy": []}
    for _ in range(5):
        for name, taken in times.items():
            command = [sys.executable, "-c", code.format(name)]
            taken.append(
                float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            )
    medians = {
        "ours": statistics.median(times["minicomp"]),
        "NumPy alone": statistics.median(times["numpy"]),
    }
    yield row("import", "minicomp", medians, "NumPy alone", "which ours imports")
