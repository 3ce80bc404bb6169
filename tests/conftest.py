import json
import os
from collections import Counter
from pathlib import Path
from time import perf_counter  # tests replace that of the module

# One BLAS thread a process, set before anything loads NumPy: the workers of pytest-xdist and every
# process that a test starts inherit it. A test of two threads asks for them (n_threads=2).
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

CI = os.environ.get("CI", "").lower() == "true"
CORES = os.cpu_count()
SLOW = 5.0  # seconds of processor time, so that a busy machine fails nothing; longer: marked slow

# At a desk few examples, other ones each time. In CI more, and derandomized: there a verdict
# belongs to the commit and can be had again, not to the luck of a run.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.load_profile("ci" if CI else "default")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    # A run over folders uses all cores where pytest-xdist is there and nothing else was asked for;
    # -n 0, -p no:xdist, -s and --pdb run in this process, as does a single file.
    option = config.option
    asked = getattr(option, "numprocesses", 0) is not None or option.tx or option.dist != "no"
    if asked or hasattr(config, "workerinput") or option.capture == "no" or option.trace:
        return
    if all(Path(str(arg).partition("::")[0]).is_dir() for arg in config.args):
        option.numprocesses = "auto"  # 0 with --pdb


def processor():
    # Seconds that this process spent, and those that it waited for.
    return sum(os.times()[:4])


class Shared:
    """Sums the processor time of fixtures of more than one test."""

    seconds = 0.0

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        before = processor()
        yield
        if fixturedef.scope != "function":
            self.seconds += processor() - before


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    # What a test and the processes that it waited for spent, for `Slow`; what many tests share is
    # charged to none. A process that an earlier test left, and that ends in this one, is charged to
    # it whole: no test spends more than all cores have while it runs.
    shared = item.config.pluginmanager.get_plugin("shared-fixtures")
    before, start = processor() - shared.seconds, perf_counter()
    item.user_properties.append(("processor", lambda: min(
        processor() - shared.seconds - before, (perf_counter() - start) * CORES)))
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    spent = dict(item.user_properties).get("processor")
    report.user_properties = [("processor", spent())] if spent else []


class Slow:
    """Fails the run for tests that take more than SLOW and are not marked slow."""

    def __init__(self):
        self.seconds = {}

    def pytest_runtest_logreport(self, report):
        if not {"slow", "peers"} & set(report.keywords):
            self.seconds[report.nodeid] = dict(report.user_properties).get("processor", 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        self.over = {test: s for test, s in self.seconds.items() if s > SLOW}
        if self.over and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.over:
            terminalreporter.section(f"over {SLOW:g} s and not marked slow", red=True)
            for test, s in sorted(self.over.items()):
                terminalreporter.line(f"{s:.2f} s  {test}")


def pytest_configure(config):
    # A plugin of its own: of the session's fixtures a conftest below the root is not told.
    config.pluginmanager.register(Shared(), "shared-fixtures")
    if CI and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Slow(), "slow-tests")


@pytest.fixture(autouse=True)
def sources_of_this_checkout(monkeypatch):
    # The installed package is tested; the lessons' sources are only here.
    from minicomp.teach.notebook import build

    monkeypatch.setattr(build, "_ROOT", Path(__file__).parents[1])


@pytest.fixture
def built_in():
    # A built-in net by name; of one that is large, a narrow one on small images.
    from minicomp.models import MODELS

    least = {"width": 0.05, "resolution": 16}
    small = {name: least for name in ("mobilenetv1", "alexnet", "xception")}
    small |= {name: {"resolution": 8} for name in ("squeezenet1_0", "squeezenet1_1")}
    # of units that any quarter of a ShuffleNet's can be removed without making groups unequal
    small |= {"mobilenetv2": least | {"width": 0.1},
              "shufflenet": {"groups": 2, "width": 0.32, "resolution": 8},
              "vggsmall": {"width": 0.05, "resolution": 8},
              "resnet20": {"width": 0.5, "resolution": 8, "blocks": 1}}
    return lambda name, **args: MODELS[name](**(small.get(name, {}) | args))


@pytest.fixture
def lesson4():
    from minicomp.teach import catalog

    return catalog.lesson(4)


@pytest.fixture
def solved(tmp_path, lesson4):
    # Writes the solved notebook of lesson 4, its cells changed by a function of the list of cells.
    def write(change=lambda cells: cells, name="04_solved.ipynb", meta=True, solutions=True):
        from minicomp.teach.notebook import build

        tree = json.loads(build.notebook_text(lesson4, solutions=solutions))
        tree["cells"] = change(tree["cells"])
        if not meta:
            tree["metadata"] = {}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree), encoding="utf-8")
        return path

    return write


def has_tag(cell, tag):
    return tag in cell["metadata"].get("tags", [])


@pytest.fixture
def replaced():
    # A change: the cell with a tag gets another source; code may also be put before all cells.
    def make(sources=None, first=()):
        def change(cells):
            out = [code(text) for text in first]
            for cell in cells:
                for tag, text in (sources or {}).items():
                    if has_tag(cell, tag):
                        cell = cell | {"source": text}
                out.append(cell)
            return out

        return change

    return make


def code(text, tags=()):
    return {
        "cell_type": "code",
        "id": "x",
        "metadata": {"tags": list(tags)},
        "source": text,
        "outputs": [],
        "execution_count": None,
    }


@pytest.fixture
def layer_calls(monkeypatch):
    # How often a layer of each kind has been run.
    from minicomp.nn import Layer

    counts, plain = Counter(), Layer.__call__

    def counting(self, *args, **kwargs):
        counts[self.kind] += 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Layer, "__call__", counting)
    return counts
