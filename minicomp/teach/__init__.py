"""What lessons call: `Lesson`, `check`, `hint`, `predict`, `reflect`; and the grader behind them.

draw, wire                   numbers that are the same everywhere; values between processes
judge, exercise, catalog     what is asked, and what is wrong with an answer
checks/                      the exercises of each lesson
session, figures, shown      what a running lesson uses and displays
notebook, build, page        sources, notebooks, static pages
child, process, running      the student's process, and what asks it
grade, classroom, feedback   one notebook, a folder of them, what students get back
commands                     minicomp lesson ...
"""

from .live.session import Lesson, check, hint, predict, reflect

__all__ = ["Lesson", "check", "hint", "predict", "reflect"]
