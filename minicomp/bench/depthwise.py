"""Races of depthwise 3 x 3 convolutions beside PyTorch, channels-last, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..kernels.layout import nchw
from ..kernels.maps.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from ..kernels.memory import aligned
from .race import Log, Row, peer_module, race, row

Array = np.ndarray
# C, H = W, stride, batch: no map of more than 32 MB, which glibc asks of the system anew each time,
# so that its pages cost more than the kernels
LAYERS = ((96, 32, 1, 64), (144, 32, 2, 32), (192, 16, 1, 64), (384, 8, 1, 64), (960, 4, 1, 64))
PEER = "torch, channels_last"


def depthwise_layers(peers: bool, log: Log) -> Iterator[Row]:
    """Yields layers of MobileNetV2-32 beside PyTorch."""
    torch = peer_module("torch", peers, log)
    if torch is None:
        text = "bench depthwise: the peer is torch; --peers runs it where it is installed"
        log({"event": "say", "text": text})
        return
    for c, size, stride, batch in LAYERS:
        calls = {"ours": ours, PEER: theirs(torch)}
        passes = {name: make(*drawn(c, size, stride, batch), stride)
                  for name, make in calls.items()}
        for i, kind in enumerate(("forward", "backward")):
            times = race({name: both[i] for name, both in passes.items()})
            yield row(f"depthwise 3 x 3, {kind}",
                      f"{c} channels, {size} x {size}, stride {stride}, batch {batch}", times, PEER)


def drawn(c: int, size: int, stride: int, batch: int) -> tuple[Array, Array, Array]:
    """Returns x, w and the cotangent g of the output, drawn; maps channels-last, from the start of
    a cache line on, as both engines lay their own."""
    rng, out = np.random.default_rng(0), -(-size // stride)

    def maps(size: int) -> Array:
        lies = aligned(batch, size, size, c)
        lies[...] = rng.normal(size=lies.shape)
        return nchw(lies)

    return maps(size), rng.normal(size=(c, 1, 3, 3)).astype(np.float32), maps(out)


def ours(x: Array, w: Array, g: Array, stride: int) -> tuple[Callable, Callable]:
    """Returns what computes the output, and what computes the gradients of x and w."""
    kw = dict(stride=(stride, stride), padding=(1, 1), groups=len(w))
    return lambda: conv2d(x, w, **kw), lambda: (
        conv2d_input_grad(g, w, size=x.shape[2:], **kw),
        conv2d_weight_grad(x, g, kernel=(3, 3), **kw))


def theirs(torch) -> Callable[..., tuple[Callable, Callable]]:
    """Returns what `ours` is, by PyTorch on one thread."""

    def make(x: Array, w: Array, g: Array, stride: int) -> tuple[Callable, Callable]:
        torch.set_num_threads(1)
        kw = dict(stride=[stride] * 2, padding=[1, 1], groups=len(w))
        x, w, g = (torch.from_numpy(a).to(memory_format=torch.channels_last) for a in (x, w, g))
        return lambda: torch.nn.functional.conv2d(x, w, **kw), lambda: (
            torch.ops.aten.convolution_backward(
                g, x, w, None, dilation=[1, 1], transposed=False, output_padding=[0, 0],
                output_mask=[True, True, False], **kw)[:2])

    return make
