"""Knowledge distillation: a net trained on what a larger one, or several, say of each example."""
