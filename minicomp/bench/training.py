"""Races of training and of the import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from ..data.dataset import Split
from ..kernels.threads import blas
from ..models import MODELS
from ..optim import SGD
from ..train import fit
from .race import Log, Row, peer_module, race, row


class Digits:
    """Random pictures of the size of MNIST's, as the `train` and `val` that `fit` asks for."""

    def __init__(self, n: int, rng: np.random.Generator):
        x, y = rng.normal(size=(n, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, n)
        self.train, self.val = Split(x, y), Split(x[:1], y[:1])


def _train_ours(name: str, batch: int, data: Digits, n_threads: int = 1) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    model = MODELS[name](rng=rng)
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return lambda: fit(
        model, data, epochs=1, optimizer=optimizer, rng=rng, batch_size=batch, n_threads=n_threads
    )


def _train_torch(torch, name: str, batch: int, data: Digits) -> Callable[[], object]:
    nn = torch.nn
    torch.set_num_threads(1)
    layers = {
        "lenet300": lambda: [
            nn.Flatten(),
            nn.Linear(784, 300),
            nn.ReLU(),
            nn.Linear(300, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        ],
        "lenet5": lambda: [
            nn.Conv2d(1, 20, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        ],
    }
    model, loss = nn.Sequential(*layers[name]()), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)

    def epoch():
        order = torch.randperm(len(y))
        for i in range(0, len(y), batch):
            rows = order[i : i + batch]
            optimizer.zero_grad()
            value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
            value.item()

    return epoch


def training(peers: bool, log: Log) -> Iterator[Row]:
    """Yields training beside PyTorch, eager, NCHW."""
    torch = peer_module("torch", peers, log)
    if torch is None:
        log(
            {
                "event": "say",
                "text": "bench training: the peer is torch; --peers runs it where it is installed",
            }
        )
        return
    for name, batch, steps in (("lenet300", 64, 100), ("lenet5", 64, 10), ("lenet5", 256, 4)):
        data = Digits(batch * steps, np.random.default_rng(0))
        times = race(
            {
                "ours": _train_ours(name, batch, data),
                "torch eager": _train_torch(torch, name, batch, data),
            },
            part=3,
        )
        yield row(
            f"training {name}",
            f"batch {batch}",
            times,
            "torch eager",
            "NCHW, SGD with momentum",
            unit="images/s",
            work=batch * steps,
        )


def threads(peers: bool, log: Log) -> Iterator[Row]:
    """Yields training in two threads beside one."""
    for batch, steps in ((64, 40), (256, 10)):  # so many that what a call of fit costs is little
        data = Digits(batch * steps, np.random.default_rng(0))
        with blas(2):
            times = race(
                {
                    "ours": _train_ours("lenet5", batch, data, 2),
                    "one thread": _train_ours("lenet5", batch, data, 1),
                },
                clock=time.perf_counter,
            )
        yield row(
            "two threads, training lenet5",
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
