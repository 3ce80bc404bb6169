"""Binary and ternary weights, one paper, one file; `training` is what they have in common."""
