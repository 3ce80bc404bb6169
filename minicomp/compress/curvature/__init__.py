"""Second derivatives: Hessians of the loss and of one layer's outputs."""
