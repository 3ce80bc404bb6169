"""Jobs that run techniques: recipes, budgets, sensitivity."""

from .job import Job, run
from .recipe import Recipe, load_recipe, parse_with, recipes
from .sensitivity import Scan, allocate, scan

__all__ = ["Job", "Recipe", "Scan", "allocate", "load_recipe", "parse_with", "recipes", "run",
           "scan"]
