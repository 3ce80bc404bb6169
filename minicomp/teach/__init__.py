"""What lessons call: `Lesson`, `check`, `hint`, `predict`, `reflect`; and the grader behind them.

asking/      what is asked: exercises with their parts and mutants, how answers are judged and shown
checks/      the exercises of each lesson; their words stand in lessons/words
catalog      lessons by number, and where their files lie
live/        a running lesson, its trained nets; the student's process, and what asks it
figures/     the plot of each lesson
notebook/    sources, notebooks, static pages
grading/     one notebook, a folder of them, what students get back
"""

from .live.session import Lesson, check, hint, predict, reflect

__all__ = ["Lesson", "check", "hint", "predict", "reflect"]
