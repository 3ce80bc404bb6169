"""Low rank: a layer's weight as a product of smaller ones, each an ordinary layer of the net."""
