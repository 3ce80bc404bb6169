"""minicomp lesson list | open | grade | build | progress."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..atomic import as_json, write_atomically
from ..errors import UserError, printable
from ..teach import catalog
from ..teach.live.checkpoints import MODES
from . import options


def add_parsers(commands) -> None:
    """Adds `lesson` and its commands."""
    lesson = options.command(
        commands, "lesson", None, help="lessons to open, grade and build",
        examples="minicomp lesson list\nminicomp lesson open 4\n"
        "minicomp lesson grade 4 submissions/ --roster class.csv --key course.key")
    commands = lesson.add_subparsers(title="commands", metavar="COMMAND", required=True)
    options.command(commands, "list", run_list, help="the lessons, and what each is about",
                    examples="minicomp lesson list")
    _add_open(commands)
    _add_grade(commands)
    _add_build(commands)
    p = options.command(
        commands, "progress", run_progress, help="your points in the notebooks of a folder",
        examples="minicomp lesson progress\n"
        "minicomp lesson progress ~/lessons --json progress.json")
    p.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="FOLDER",
                   help="where your notebooks are (default: here)")
    p.add_argument("--json", metavar="F",
                   help="write the result as JSON; - for standard output")
    options.files(p, reads=("folder",), writes=("json",))


def _add_open(commands) -> None:
    p = options.command(
        commands, "open", run_open, help="a copy of a lesson's notebook, here", examples="""
minicomp lesson open 4                 copies it, never over yours; starts JupyterLab
minicomp lesson open 4 --no-start      copies it; open it in VS Code, Colab or Jupyter
minicomp lesson open 4 --fresh         another untouched copy, under another name""")
    p.add_argument("number", metavar="NN", help="number of the lesson")
    p.add_argument("--fresh", action="store_true", help="write an untouched copy under a free name")
    p.add_argument("--no-start", action="store_true", help="do not start JupyterLab")


def _add_grade(commands) -> None:
    p = options.command(
        commands, "grade", run_grade, help="points for a notebook, or for a folder of them",
        examples="minicomp lesson grade 4 04_magnitude.ipynb\n"
        "minicomp lesson grade 4 04_magnitude.ipynb --json - --key course.key\n"
        "minicomp lesson grade 4 submissions/ --roster class.csv --key course.key")
    p.add_argument("number", metavar="NN", help="number of the lesson")
    p.add_argument("path", type=Path, metavar="FILE.ipynb|FOLDER|F.zip",
                   help="what was handed in; of lesson 20 also F.mcz")
    p.add_argument("--roster", type=Path, metavar="F.csv",
                   help='students: a column "student", optionally "file"')
    p.add_argument("--json", metavar="F",
                   help="write the results as JSON; - for standard output (one notebook)")
    p.add_argument("--csv", type=Path, metavar="F",
                   help="write the table (default for a folder: grades-NN.csv); points in its"
                   " column manual are kept and count")
    p.add_argument("--feedback", type=Path, metavar="FOLDER",
                   help="pages for students (default: feedback-NN)")
    p.add_argument("--key", type=Path, metavar="FILE",
                   help="course key: hidden tests of your own; - for standard input")
    p.add_argument("--jobs", type=int, metavar="N", default=min(2, os.cpu_count() or 1),
                   help="notebooks at a time (default %(default)s)")
    options.files(p, reads=("path", "roster", "key"), writes=("json",), updates=("csv",),
                  folder=("feedback",))


def _add_build(commands) -> None:
    p = options.command(
        commands, "build", run_build,
        help="notebooks and pages from the lesson sources (in a checkout)", examples="""
minicomp lesson build                            all notebooks
minicomp lesson build --check                    fails where one is out of step
minicomp lesson build --html site --mode smoke   executed pages and an index
minicomp lesson build 4 --expected --seeds 5     runs the lesson, records its numbers""")
    p.add_argument("numbers", nargs="*", metavar="NN", help="lessons (default: all)")
    p.add_argument("--check", action="store_true",
                   help="write nothing; fail where something is out of step")
    p.add_argument("--html", type=Path, metavar="FOLDER", nargs="?", const=Path("lessons-html"),
                   help="execute the lessons into static pages (default folder: lessons-html)")
    p.add_argument("--no-solutions", action="store_true",
                   help="pages show the stubs instead of the solutions")
    p.add_argument("--mode", choices=MODES, default="full", help="of the pages (default full)")
    p.add_argument("--expected", action="store_true",
                   help="run in full mode and write lessons/expected/NN.json")
    p.add_argument("--data", action="append", metavar="NAME",
                   help="data set of --expected (default: mnist and glyphs)")
    p.add_argument("--seeds", type=int, default=5, metavar="N",
                   help="runs of --expected (default 5)")
    options.files(p, folder=("html",))


# ----------------------------------------------------------------------------------------- handlers


def run_list(args) -> int:
    """Prints the lessons."""
    for of in catalog.lessons().values():
        asked = of.asked()
        print(f"{of.number}  {of.title}")
        print(
            f"    {', '.join(e.title for e in asked)}; {of.max_points} points, "
            f"{sum(e.minutes for e in asked)} minutes of exercises"
        )
    print("\nminicomp lesson open NN copies a lesson's notebook into this folder.")
    return 0


def run_open(args) -> int:
    """Copies a notebook here, or takes the copy that is here; starts JupyterLab."""
    of = catalog.lesson(args.number)
    source = catalog.notebook_path(of)
    path = Path(source.name)
    there = path.exists()
    if there and args.fresh:
        path = next(p for i in range(2, 1000) if not (p := Path(f"{of.stem}-{i}.ipynb")).exists())
    if not path.exists():
        _copy(source, path)
    print(path.resolve())
    if there and not args.fresh:
        print("This is the copy that was here; --fresh makes an untouched one under another name.")
    if args.no_start:
        return 0
    if importlib.util.find_spec("jupyterlab") is None:
        print(
            "JupyterLab is not installed: open the file in VS Code, upload it to Colab, or "
            "pip install '.[lessons]' in the checkout."
        )
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        return subprocess.run([sys.executable, "-m", "jupyterlab", str(path)]).returncode
    return 0


def _copy(source: Path, path: Path) -> None:
    try:
        with (
            open(source, "rb") as original,
            open(path, "xb") as copy,
        ):  # x: never over a student's work
            shutil.copyfileobj(original, copy)
    except OSError as e:
        raise UserError(f"{path}: cannot be written: {e.strerror}") from None


def run_grade(args) -> int:
    """Grades a notebook or a folder; prints points, writes JSON, CSV and feedback."""
    from ..teach.grading.grade import read_key
    from ..teach.live import keeper

    of = catalog.lesson(args.number)
    key = read_key(args.key)
    if args.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {args.jobs}")
    if not args.path.exists():
        raise UserError(f"{printable(args.path)}: there is no such file or folder")
    if args.key is not None:
        keeper.prctl(keeper.SET_DUMPABLE, 0)  # no process of this user reads the key from memory
        print(
            f"course code of this key, for Lesson(..., course=...): {key.course}", file=sys.stderr
        )
    several = args.path.is_dir() or args.path.suffix.lower() == ".zip"
    return _grade_folder(args, of, key) if several else _grade_file(args, of, key)


def _grade_file(args, of: catalog.LessonChecks, key) -> int:
    from ..teach.grading import leaderboard
    from ..teach.grading.feedback import page
    from ..teach.grading.grade import grade
    from ..teach.grading.table import marked, read_kept, table

    if args.roster is not None:
        raise UserError("--roster goes with a folder")
    kept = read_kept(args.csv, of) if args.csv else None
    if args.path.suffix.lower() == leaderboard.NET:
        row = leaderboard.read_alone(args.path, of, key)
    else:
        row = grade(args.path, of.number, key=key)
        if of.capstone:
            row = leaderboard.with_file(row, leaderboard.beside(args.path, of), of, key)
    if args.json != "-":
        for done in row["exercises"].values():
            if done["report"]:
                print(done["report"] + "\n")
        for problem in row["problems"]:
            print(f"cell {problem['cell'] + 1}: {problem['problem']}")
        print(f"guesses: {row['prediction']['points']} of {row['prediction']['max_points']}")
        if file := row["capstone"]:
            print(f"file {file['file']}: {file['points']} of {file['max_points']}: {file['text']}")
        by_hand = sum(r.max_points for r in of.reflections)
        print(
            f"{row['file']}: {row['points']} of {row['max_points']} points ({row['status']}), "
            f"{row['seconds']:.1f} s" + (f"; by hand: up to {by_hand} more" if by_hand else "")
        )
    _write_json(args.json, row)
    if kept is not None:
        write_atomically(args.csv, table(marked([row], kept, of), of, kept))
    if args.feedback:
        args.feedback.mkdir(parents=True, exist_ok=True)
        write_atomically(args.feedback / f"{args.path.stem}.html", page(row, of).encode())
    return 0


def _grade_folder(args, of: catalog.LessonChecks, key) -> int:
    from ..teach.grading.classroom import Outputs, grade_folder

    if args.json == "-":
        raise UserError("--json - goes with one notebook; for a folder give a file")
    out = Outputs(
        csv=args.csv or Path(f"grades-{of.number}.csv"),
        json=Path(args.json or f"grades-{of.number}.json"),
        feedback=args.feedback or Path(f"feedback-{of.number}"),
    )
    options.check_files(args, csv=out.csv, json=out.json, feedback=out.feedback,
                        also=[("the class's page", out.summary, "updates"),
                              ("the journal", out.journal, "updates")])

    def say(row: dict) -> None:
        if row["event"] == "note":
            print(printable(row["text"], 1000), file=sys.stderr)
            return
        print(
            f"{row['done']:3} of {row['total']}  {row['points']:2} of {of.max_points} "
            f" {row['file']}",
            flush=True,
        )

    rows = grade_folder(
        args.path, of.number, out, key=key, roster=args.roster, jobs=args.jobs, log=say
    )
    odd = [r for r in rows if r["status"] != "graded"]
    print(f"\n{len(rows)} rows in {out.csv}; pages in {out.feedback}; the class in {out.summary}")
    for r in odd:
        print(f"  {r['student'] or '?'} ({r['file'] or 'nothing'}): {r['status']}")
    return 0


def run_progress(args) -> int:
    """Prints the points of every lesson whose notebook lies in a folder."""
    from ..teach.grading.grade import grade, lesson_of
    from ..teach.live.process import Nursery
    from ..teach.notebook.cells import read_notebook

    if not args.folder.is_dir():
        raise UserError(f"{args.folder}: there is no such folder")
    rows = []
    with Nursery() as nursery:
        for path in sorted(args.folder.glob("*.ipynb")):
            try:
                of = lesson_of(read_notebook(path))
                if of in catalog.lessons():
                    rows.append(grade(path, of, nursery=nursery))
            except UserError as e:
                print(printable(e))
    rows.sort(key=lambda row: (row["lesson"], row["file"]))
    for done in rows:
        marks = ", ".join(
            f"{i.partition('.')[2]} {e['points']}/{e['max_points']}"
            for i, e in done["exercises"].items()
        )
        points = f"{done['points']:2} of {done['max_points']:2}"
        print(f"{done['lesson']}  {points}  {done['file']}: {marks}")
    if not rows:
        print(
            f"There is no lesson notebook in {args.folder.resolve()}; minicomp lesson open NN"
            " copies one here."
        )
    _write_json(args.json, rows)
    return 0


def run_build(args) -> int:
    """Builds notebooks, pages or expected numbers."""
    from ..teach.notebook import build

    lessons = [catalog.lesson(n) for n in args.numbers] or list(catalog.lessons().values())
    _check_build(args)
    if args.check:
        lines = build.stale()
        print("\n".join(lines) or "every notebook is what its source builds")
        return 1 if lines else 0
    if args.expected:
        for of in lessons:
            build.record(
                of,
                data=args.data or ("mnist", "glyphs"),
                seeds=args.seeds,
                log=lambda row: print(
                    f"{row['name']}: run {row['done'] + 1} of {row['total']}", flush=True
                ),
            )
    for of in lessons:
        print(build.build(of))
    if args.html is not None:
        from ..teach.notebook.page import site

        print(site(lessons, args.html, mode=args.mode, solutions=not args.no_solutions))
    return 0


def _check_build(args) -> None:
    # Options that say nothing without another one, or against it.
    if args.check and (args.expected or args.html is not None or args.numbers):
        raise UserError("--check looks at every notebook and writes nothing: it goes alone")
    if not args.expected and (args.data or args.seeds != 5):
        raise UserError("--data and --seeds go with --expected")
    if args.html is None and (args.no_solutions or args.mode != "full"):
        raise UserError("--no-solutions and --mode go with --html")


def _write_json(target: str | None, value) -> None:
    if target is None:
        return
    text = as_json(value, indent=1) + "\n"
    if target == "-":
        print(text, end="")
    else:
        write_atomically(Path(target), text.encode())

