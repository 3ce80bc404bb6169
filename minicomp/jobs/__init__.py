"""Jobs that run techniques: recipes, budgets, sensitivity."""
