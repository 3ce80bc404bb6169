"""Grids of activations: when a value goes onto one, and which layer that is."""

from __future__ import annotations

from dataclasses import replace

from ...errors import UserError
from ...nn.layers import ActQuant
from .forms import grid_named
from .graph import Op
from .net import Net
from .values import Codes, Grid, Value


def on_grid(net: Net, op: Op, codes: Codes) -> Value:
    """Returns the value that codes stand for: the net's number, on its grid. UserError where no
    layer has it."""
    if codes.there:
        return codes.value
    grid, v = codes.grid, codes.value
    if _lies_on(net, v.source, grid):
        return v
    key = (v.source, grid)
    if key not in net.on_grid:
        made = net.emit(op, layer_of(grid), v.source, name=f"{v.source[:80]}_q").source
        net.on_grid[key] = made
        net.grids.add((made, grid))
    return replace(v, source=net.on_grid[key])


def _lies_on(net: Net, source: str, grid: Grid) -> bool:
    # Whether what a node gives came from this grid through layers that only hand it on.
    node = net.nodes.get(source)
    while node is not None and node.layer.passes:
        node = net.nodes.get(node.inputs[0]) if len(node.inputs) == 1 else None
    return node is not None and (node.name, grid) in net.grids


def settled(net: Net, op: Op, codes: Codes) -> Codes:
    """Returns codes whose value lies on the grid."""
    return Codes(on_grid(net, op, codes), codes.grid, there=True)


def layer_of(grid: Grid) -> ActQuant:
    """Returns the layer that puts values on a grid; UserError where there is none."""
    bits, name = grid_named(grid.lo, grid.hi)
    if name == "narrow" and grid.zero_point:
        raise UserError(f"no grid has the codes {grid.lo}..{grid.hi} and the zero point "
                        f"{grid.zero_point}: narrow ones have none")
    if not grid.scale > 0:
        raise UserError(f"the scale of an activation must be above 0, got {grid.scale:g}")
    layer = ActQuant(bits, name, zero_point=bool(grid.zero_point))
    layer.set_grid(grid.scale, grid.zero_point)
    return layer
