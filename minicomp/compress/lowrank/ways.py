"""How a layer is read as a matrix, and the two factors of that matrix as two layers.

O out, C in, K kernel h x w, G groups, t the rank of a group. The matrix of a group is (R, S), R on
the side of the outputs, and its factors a (R, t), b (t, S): b is applied first.

    linear     (O, C)                    two linear layers              Denton et al. 2014
    weight     (O, C h w)                t filters h x w, then 1 x 1    Denton et al. 2014
    spatial    (O w, C h)                t filters h x 1, then 1 x w    Jaderberg et al. 2014

The stride and padding of an axis go with the filter that runs along it.
"""

from __future__ import annotations

from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array
from .chains import decoded, given, numbers
from .ranks import paying_rank


class LinearWay:
    """W (O, C) as a, (O, t), after b, (t, C)."""

    def matrix(self, layer: Layer) -> Array:
        """Returns the weight as a stack of matrices, (G, R, S) float64."""
        return decoded(layer)[None]

    def paying(self, layer: Layer) -> int:
        """Returns the break-even rank: the largest whose factors hold fewer weights."""
        return paying_rank(numbers(self.empty(layer, 1)), numbers([layer]))

    def empty(self, layer: Layer, rank: int) -> tuple[Layer, Layer]:
        """Returns the two layers of a rank, with weights 0."""
        return (Linear(layer.in_features, rank, bias=False),
                Linear(rank, layer.out_features, bias="bias" in layer.forms))

    def filled(self, layer: Layer, a: Array, b: Array) -> tuple[Layer, Layer]:
        """Returns the two layers of factors a (G, R, t) and b (G, t, S)."""
        first, second = self.empty(layer, b.shape[1])
        return given(first, b), given(second, a)


class WeightWay(LinearWay):
    """W (O, C h w) as 1 x 1 filters after t filters h x w; of each group its own."""

    def matrix(self, layer):
        return decoded(layer).reshape(layer.groups, layer.out_channels // layer.groups, -1)

    def empty(self, layer, rank):
        G = layer.groups
        return (Conv2d(layer.in_channels, G * rank, layer.kernel_size, layer.stride, layer.padding,
                       G, bias=False),
                Conv2d(G * rank, layer.out_channels, 1, groups=G, bias="bias" in layer.forms))


class SpatialWay(LinearWay):
    """W as filters 1 x w after t filters h x 1; of each group its own."""

    def matrix(self, layer):
        return spatial_matrix(decoded(layer), layer.groups)

    def empty(self, layer, rank):
        G, (h, w) = layer.groups, layer.kernel_size
        (sh, sw), (ph, pw) = layer.stride, layer.padding
        return (Conv2d(layer.in_channels, G * rank, (h, 1), (sh, 1), (ph, 0), G, bias=False),
                Conv2d(G * rank, layer.out_channels, (1, w), (1, sw), (0, pw), G,
                       bias="bias" in layer.forms))

    def filled(self, layer, a, b):
        w = layer.kernel_size[1]
        a = a.reshape(layer.out_channels, w, -1).transpose(0, 2, 1)
        return super().filled(layer, a, b)


def spatial_matrix(w: Array, groups: int = 1) -> Array:
    """Returns filters (O, C / G, h, w) as (G, O / G w, C / G h), rows (o, j), columns (c, i).

    Source: Jaderberg, Vedaldi & Zisserman 2014 (arXiv 1405.3866), scheme 2
    """
    O, C, h, width = w.shape
    w = w.reshape(groups, O // groups, C, h, width).transpose(0, 1, 4, 2, 3)
    return w.reshape(groups, O // groups * width, C * h)


LINEAR, WEIGHT, SPATIAL = LinearWay(), WeightWay(), SpatialWay()
