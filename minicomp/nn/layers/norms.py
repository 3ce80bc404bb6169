"""Batch normalisation."""

from __future__ import annotations

import numpy as np

from ... import ops
from ...conv import conv2d
from ...grid import ap2
from ...kernels.layout import as_nhwc
from ...kernels.maps import norm
from ...kernels.maps.conv_norm import conv2d_moments
from ...tensor import Array, Tensor, no_grad, raw
from ..forms import Dense, Part
from ..norm import Block, batch_norm, conv2d_batch_norm, gate_of, line_of
from .base import Layer, number, positive
from .pointwise import ReLU, ReLU6

RECTIFIERS = {ReLU: ops.relu, ReLU6: ops.relu6}  # that run in the pass of the normalisation


class _BatchNorm(Layer):
    # Ioffe & Szegedy 2015; running statistics as PyTorch keeps them (the variance with n - 1).
    coupling, pointwise, normalises, tracks = "keep", True, True, True
    sizes = {"num_features": "out"}
    step = "scale"
    buffer_parts = {
        "running_mean": Part("table", axes=(0,)),
        "running_var": Part("table", axes=(0,), least=0),
    }
    axes: tuple[int, ...]
    still = False  # whether a training goes on with the running statistics as they are

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        (num_features,) = positive(num_features=num_features)
        eps, momentum = (number(name, value, lambda v: 0 <= v <= 1, "a float in [0, 1]")
                         for name, value in (("eps", eps), ("momentum", momentum)))
        super().__init__(num_features=num_features, eps=eps, momentum=momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.forms = {
            "weight": Dense(np.ones(num_features, np.float32)),
            "bias": Dense(np.zeros(num_features, np.float32)),
        }
        self.buffers = {
            "running_mean": np.zeros(num_features, np.float32),
            "running_var": np.ones(num_features, np.float32),
        }

    @classmethod
    def entries(cls, num_features, **_):
        return 4 * positive(num_features=num_features)[0]

    def forward(self, x, *, weights, training, n_threads=1, after=None, **_):
        gamma, beta = weights["weight"], weights["bias"]
        if not self._learns(x, training):
            shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
            std = np.sqrt(self.buffers["running_var"] + np.float32(self.eps))
            gain = ops.reshape(gamma / std, shape=shape)
            offset = ops.reshape(beta - gamma * (self.buffers["running_mean"] / std), shape=shape)
            y = x * gain + offset
            return y if after is None else after(y)
        statistics = self._statistics(x, *norm.moments(x.data))
        return batch_norm(x, gamma, beta, eps=self.eps, statistics=statistics, after=after,
                          n_threads=n_threads)

    def fused(self, *after):
        plain = type(self) in (BatchNorm1d, BatchNorm2d) and len(after) == 1
        if not plain or type(after[0]) not in RECTIFIERS:
            return None
        then = RECTIFIERS[type(after[0])]
        return lambda x, *, weights, **kw: self.forward(x, weights=weights[0], after=then, **kw)

    def _statistics(self, x, mean: Array, var: Array) -> tuple[Array, Array]:
        # Those of the batch in the dtype of x; they move the running ones.
        mean, var = mean.astype(x.dtype), var.astype(x.dtype)
        self._track(mean, var, n=x.size // self.num_features)
        return mean, var

    def _learns(self, x, training: bool) -> bool:
        # Whether the statistics are those of the batch.
        m = x.size // self.num_features
        if training and m == 1:
            raise ValueError(f"{self.kind} must see more than one value a channel in training, got "
                             f"x of shape {x.shape}")
        return training and not self.still and m > 0  # no examples: nothing to learn from

    def gain_and_bias(self) -> tuple[Array, Array]:
        """Returns what it does outside of training, x gain + bias, (C,) float64 each.

        ValueError where the running variance and eps are 0 together.
        """
        # gamma (x - mean) / std + beta; float64, for bias may be a small difference
        with no_grad():
            weights = {part: w.data.astype(np.float64) for part, w in self.decode().items()}
        var = self.buffers["running_var"] + np.float64(self.eps)
        if not (var > 0).all():
            raise ValueError(f"running_var + eps must be above 0, got {var.min():g}")
        gain = weights["weight"] / np.sqrt(var)
        return gain, weights["bias"] - self.buffers["running_mean"] * gain

    def lowered(self):
        made = zip(("gain", "bias"), self.gain_and_bias())
        return {part: Dense(a.astype(np.float32), trainable=False) for part, a in made}

    def _track(self, mean: Array, var: Array, n: int) -> None:
        for name, value in (("running_mean", mean), ("running_var", var * (n / (n - 1)))):
            self.buffers[name] += (self.momentum * (value - self.buffers[name])).astype(np.float32)

    def switched_off(self, channels):
        with no_grad():  # a channel of scale 0 is its shift
            return self.forms["weight"].dense().data == 0

    def out_shape(self, shape):
        if len(shape) != len(self.axes) or shape[0] != self.num_features:
            raise ValueError(
                f"{self.kind} needs {self.num_features} channels and {len(self.axes) - 1} spatial "
                f"axes, got an input of shape {shape}"
            )
        return shape


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features, x (N, C)."""

    kind, axes = "BatchNorm1d", (0,)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of maps, x (N, C, H, W)."""

    kind, axes = "BatchNorm2d", (0, 2, 3)


def in_a_row(x, blocks, *, weights, training, n_threads=1, rng=None):
    """Returns the output of blocks in a row, (N, O, Ho, Wo): one primitive where all of them learn
    from the batch, see `conv2d_batch_norm`, else block by block.

    x : (N, C, H, W)
    blocks : (convolution without bias, BatchNorm2d, rectifier behind it) each; the rectifier one of
        RECTIFIERS' values or, of the last, None
    weights : of the convolution and of the normalisation of each block
    Raises ValueError where a channel has a single value in training.
    """
    learn = [training and not norm.still and x.size > 0 for _, norm, _ in blocks]
    if not all(learn):
        for (conv, norm, after), (of_conv, of_norm), one in zip(blocks, weights, learn):
            if one:
                x = in_a_row(x, [(conv, norm, after)], weights=[(of_conv, of_norm)], training=True,
                             n_threads=n_threads)
            else:
                x = norm.forward(conv2d(x, of_conv["weight"], **conv.window()), weights=of_norm,
                                 training=training, after=after)
        return x
    if not x.requires_grad:  # the net's input: turned once for both ways
        x = Tensor(as_nhwc(x.data))
    taken, before, found, parameters = x.data, None, [], []
    for (conv, norm, after), (of_conv, of_norm) in zip(blocks, weights):
        w, gamma, beta = of_conv["weight"], of_norm["weight"], of_norm["bias"]
        u, *moments = conv2d_moments(taken, w.data, before=before, n_threads=n_threads,
                                     **conv.window())
        norm._learns(u, training)
        statistics = norm._statistics(u, *moments)
        line = line_of(gamma.data, beta.data, statistics, norm.eps, u.dtype)
        found.append(Block(conv.window(), norm.eps, after, u, statistics, line))
        taken, before = u, gate_of(line, after)
        parameters += [w, gamma, beta]
    return conv2d_batch_norm(x, *parameters, blocks=found, n_threads=n_threads)


class _ShiftBatchNorm(_BatchNorm):
    # AP2(z) = sign(z) 2^round(log2 |z|): products by it are shifts. With C = x - mean,
    #     var = mean(C AP2(C)),  xhat = C AP2(1 / sqrt(var + eps)),  y = AP2(gamma) xhat + beta
    # Gradients go straight through AP2. Source: Courbariaux et al. 2016, arXiv 1602.02830,
    # algorithm 3. As in the authors' code what runs beside the mean is 1 / sqrt(var + eps), before
    # AP2, and moves by 1/8.
    normalises, straight_through = False, True
    buffer_parts = {
        "running_mean": Part("table", axes=(0,)),
        "running_scale": Part("table", axes=(0,), least=0),
    }

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.125):
        super().__init__(num_features, eps, momentum)
        self.buffers["running_scale"] = self.buffers.pop("running_var")

    @classmethod
    def of(cls, norm: _BatchNorm) -> _ShiftBatchNorm:
        """Returns the layer of the weights and running statistics of a batch norm."""
        layer = cls(norm.num_features, norm.eps)
        layer.forms = {part: form.copy() for part, form in norm.forms.items()}
        layer.buffers["running_mean"][...] = norm.buffers["running_mean"]
        layer.buffers["running_scale"][...] = 1 / np.sqrt(
            norm.buffers["running_var"] + np.float32(norm.eps))
        return layer

    def forward(self, x, *, weights, training, **_):
        shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
        gamma, beta = (ops.reshape(weights[part], shape=shape) for part in ("weight", "bias"))
        if self._learns(x, training):
            mean = ops.mean(x, axis=self.axes, keepdims=True)
            C = x - mean
            var = ops.mean(C * ap2(C), axis=self.axes, keepdims=True)
            scale = 1.0 / ops.sqrt(var + self.eps)
            self._track(mean.data.reshape(-1), scale.data.reshape(-1), n=x.size)
        else:
            C = x - self.buffers["running_mean"].astype(x.dtype).reshape(shape)
            scale = self.buffers["running_scale"].astype(x.dtype).reshape(shape)
        return C * ap2(scale) * ap2(gamma) + beta

    def _track(self, mean, scale, n):
        for name, value in (("running_mean", mean), ("running_scale", scale)):
            self.buffers[name] += (self.momentum * (value - self.buffers[name])).astype(np.float32)

    def gain_and_bias(self):
        """Returns what it does outside of training, x gain + bias, (C,) float64 each."""
        with no_grad():
            gamma, beta = (self.decode()[part].data for part in ("weight", "bias"))
        gain = raw(ap2(self.buffers["running_scale"])).astype(np.float64) * raw(ap2(gamma))
        return gain, beta - self.buffers["running_mean"] * gain


class ShiftBatchNorm1d(_ShiftBatchNorm):
    """Batch normalisation of features by shifts, x (N, C)."""

    kind, axes = "ShiftBatchNorm1d", (0,)


class ShiftBatchNorm2d(_ShiftBatchNorm):
    """Batch normalisation of maps by shifts, x (N, C, H, W)."""

    kind, axes = "ShiftBatchNorm2d", (0, 2, 3)
