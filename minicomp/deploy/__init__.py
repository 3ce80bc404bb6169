"""Running a compressed model: what its forms are good for besides small files.

    program = lower(model)        steps as data, offline
    plan = program.plan(batch=1)  packed for this machine
    plan(x)                       logits; zeros are skipped where that pays
"""

from .binary_runtime import BinaryPlan
from .integer import Instruction
from .integer_runtime import IntegerPlan
from .lower import integer_precision, lower
from .program import Program
from .runtime import Plan
from .steps import Step

__all__ = ["BinaryPlan", "Instruction", "IntegerPlan", "Plan", "Program", "Step",
           "integer_precision", "lower"]
