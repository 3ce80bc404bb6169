"""No command destroys what it reads or wrote: every option that takes a path says what for."""

import argparse
import itertools
import os
import stat

import pytest

from minicomp.cli import build_parser, main
from minicomp.cli.paths import check_files, files, within
from minicomp.errors import UserError

# Options that take a text that is no path, by command; a new one is written here or declares what
# it does with its path.
TEXTS = {
    "compress": {"normalize", "steps"},
    "sweep": {"normalize", "steps", "bytes", "address"},
    "train": {"normalize", "knobs"},
    "eval": {"normalize"},
    "compare": {"normalize"},
    "sensitivity": {"normalize", "only", "criteria"},
    "show": {"normalize"},
    "debug": {"normalize"},
    "import": {"normalize", "input"},
    "lower": {"normalize", "precision", "rounding"},
    "trace": {"rounding"},
    "export": {"normalize"},
    "list": {"technique"},
    "cite": {"technique"},
    "paper": {"name"},
    "vectors": {"name"},
    "bench": {"kernel"},
    "data get": {"name"},
    "lesson open": {"number"},
    "lesson grade": {"number"},
    "lesson build": {"numbers", "data"},
}


def leaves(parser=None, name=""):
    # (command, its parser) of all that run something.
    parser = parser or build_parser()
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield name, parser
    for action in inner:
        for word, each in action.choices.items():
            yield from leaves(each, f"{name} {word}".strip())


LEAVES = dict(leaves())


def declared(parser):
    return parser.get_default("files")


def pairs():
    found = []
    for name, parser in LEAVES.items():
        for a, b in itertools.combinations(declared(parser), 2):
            if any(declared(parser)[d][0] != "reads" for d in (a, b)):
                found.append(pytest.param(parser, a, b, id=f"{name}-{a}-{b}"))
    return found


def given(parser, **paths):
    return argparse.Namespace(files=declared(parser), **paths)


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_says_what_it_does_with_its_path(name):
    parser = LEAVES[name]
    takes = {a.dest for a in parser._actions
             if a.nargs != 0 and not a.choices and not isinstance(a, argparse._HelpAction)
             and a.type not in (int, float)}
    assert takes == TEXTS.get(name, set()) | set(declared(parser))
    assert not TEXTS.get(name, set()) & set(declared(parser))


def test_a_dest_that_is_not_there_cannot_be_declared():
    with pytest.raises(KeyError):
        files(argparse.ArgumentParser(), writes=("outt",))


@pytest.mark.parametrize("parser, a, b", pairs())
def test_one_file_in_two_places_is_refused_through_any_link(parser, a, b, tmp_path):
    path, link, hard = tmp_path / "f", tmp_path / "link", tmp_path / "hard"
    link.symlink_to(path)
    folders = [declared(parser)[d][0] == "folder" for d in (a, b)]
    if any(folders):  # such a file is refused anyway, a folder must not stand twice
        path.mkdir()
        others = [path, link]
    else:
        with pytest.raises(UserError, match="give another name"):  # not there yet
            check_files(given(parser, **{a: str(path), b: str(link)}))
        path.write_bytes(b"x")
        hard.hardlink_to(path)
        others = [path, link, hard, tmp_path / "." / "f", os.path.relpath(path)]
    for other in others:
        for first, second in ((path, other), (other, path)):
            with pytest.raises(UserError, match="give another name|not a file"):
                check_files(given(parser, **{a: str(first), b: str(second)}))


def writing():
    return [pytest.param(parser, dest, role, id=f"{name}-{dest}") for name, parser in LEAVES.items()
            for dest, (role, _) in declared(parser).items() if role != "reads"]


@pytest.mark.parametrize("parser, dest, role", writing())
def test_an_output_that_cannot_be_is_refused(parser, dest, role, tmp_path):
    def refused(path, words):
        title = declared(parser)[dest][1]
        with pytest.raises(UserError, match=f"{title}: .*{words}"):
            check_files(given(parser, **{dest: str(path)}))
    (tmp_path / "folder").mkdir()
    file = tmp_path / "file"
    file.write_bytes(b"x")
    refused(file / "inside", "no folder" if role == "folder" else "the folder .* does not exist")
    if role == "folder":
        refused(file, "is no folder")
        check_files(given(parser, **{dest: str(tmp_path / "new" / "deeper")}))
        return
    refused(tmp_path / "folder", "is a folder, not a file")
    refused(tmp_path / "no" / "file", f"the folder {tmp_path / 'no'} does not exist")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "file")
    refused(tmp_path / "dangling", "nowhere does not exist")
    file.chmod(0o444)
    refused(file, f"{file} is write-protected")


def test_what_will_be_replaced_is_said_once(tmp_path, capsys):
    parser, path = LEAVES["compress"], tmp_path / "r.json"
    path.write_bytes(b"old")
    (tmp_path / "l.jsonl").write_bytes(b"")
    args = given(parser, json=str(path), log=str(tmp_path / "l.jsonl"), out=str(tmp_path / "new"))
    check_files(args)
    check_files(args, report=tmp_path / "new.html")
    assert capsys.readouterr().err == f"{path}: there already, will be replaced\n"


def test_devices_and_pipes_may_stand_anywhere(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parser = LEAVES["compress"]
    for path in (os.devnull, str(pipe)):
        check_files(given(parser, json=path, log=path, report=path))
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_of_notebooks_keeps_them(tmp_path):
    note = tmp_path / "in" / "04_ann.ipynb"
    note.parent.mkdir()
    note.write_bytes(b"{}")
    parser = LEAVES["lesson grade"]
    with pytest.raises(UserError, match=r"--csv: .*04_ann.ipynb lies in .*in, which is read"):
        check_files(given(parser, path=note.parent, csv=note))
    check_files(given(parser, path=note.parent, csv=note.with_suffix(".csv")))


def test_files_of_data_sets_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICOMP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parser = LEAVES["show"]
    for path in (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz",
                 tmp_path / "cache" / "minicomp" / "data" / "glyphs.npz"):
        path.parent.mkdir(parents=True)
        check_files(given(parser, json=str(path)))
        path.write_bytes(b"x")
        with pytest.raises(UserError, match="is a file of a data set"):
            check_files(given(parser, json=str(path)))


def test_the_folder_of_a_run_is_its_own(tmp_path):
    parser, folder = LEAVES["compress"], tmp_path / "f.mcz.run"
    (folder / "in").mkdir(parents=True)
    for path in (folder / "x.json", folder / "in" / "x.json"):
        with pytest.raises(UserError, match=r"--json: .* lies in .*f\.mcz\.run"):
            check_files(given(parser, json=str(path)), also=[("the run", folder, "run")])
    with pytest.raises(UserError, match="MODEL: .* lies in .*f.mcz.run"):
        check_files(given(parser, model=str(folder / "a.mcz")), also=[("the run", folder, "run")])


def test_within_follows_links(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert within(tmp_path / "link" / "x", tmp_path / "a") and within(tmp_path, tmp_path)
    assert not within(tmp_path / "ab", tmp_path / "a")


# ----------------------------------------------------------------------------- through the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("m.mcz", "a.onnx", "r.toml", "k.key", "s.csv", "n.ipynb"):
        (tmp_path / name).write_bytes(b"something of the user's")
    return tmp_path


@pytest.mark.parametrize("words", [
    "show m.mcz --json m.mcz",
    "eval m.mcz --json m.mcz",
    "import a.onnx --out m.mcz --json m.mcz",
    "lower m.mcz --out m.mcz",
    "lower m.mcz --out p.mcz --json p.mcz",
    "compress m.mcz --report m.mcz",
    "compress m.mcz --log m.mcz",
    "compress lenet300 --recipe r.toml --json r.toml",
    "compress lenet300 --json report.html",
    "compress lenet300 --json lenet300.mcz",
    "compress lenet300 --log lenet300.mcz.run",
    "compress lenet300 --with lottery:rewind=m.mcz --out m.mcz",
    "train lenet300 --json lenet300.mcz",
    "train lenet300 --log t.mcz --out t.mcz",
    "eval m.mcz --against n.mcz --json n.mcz",
    "debug m.mcz --against n.mcz --json m.mcz",
    "debug n.mcz --against m.mcz --json m.mcz",
    "sensitivity m.mcz --plot m.mcz",
    "sensitivity lenet300 --plot a --json a",
    "paper han2015 --json a --log a",
    "bench --plot a.png --json a.png",
    "sweep m.mcz --csv m.mcz",
    "sweep lenet300 --recipe r.toml --json r.toml",
    "sweep lenet300 --with lottery:rewind={m.mcz,n.mcz} --json m.mcz",
    "sweep lenet300 --plot a.png --csv a.png",
    "sweep lenet300 --out m.mcz",
    "lesson grade 4 n.ipynb --json n.ipynb",
    "lesson grade 4 n.ipynb --csv n.ipynb",
    "lesson grade 4 n.ipynb --key k.key --json k.key",
    "lesson grade 4 . --roster s.csv --csv s.csv",
    "lesson grade 4 . --json grades-04.csv",
    "lesson progress . --json n.ipynb",
])
def test_nothing_of_the_users_is_lost(words, here, capsys):
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    try:
        trains = words.split()[0] in ("compress", "train", "sweep")
        code = main(words.split() + (["--data", "glyphs"] if trains else []))
    except SystemExit as e:
        code = e.code
    err = capsys.readouterr().err
    *replaced, last = err.splitlines()
    assert code == 2 and last.startswith(f"minicomp {words.split()[0]}"), err
    assert all(line.endswith("will be replaced") for line in replaced) and len(replaced) < 2, err
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before


@pytest.mark.parametrize("words, message", [
    ("compress --report r.html --no-report", "--report and --no-report contradict"),
    ("train lenet300 --data glyphs --fast --set epochs=3", "--fast and --set epochs contradict"),
    ("train lenet300 --data glyphs --fast --set epochs=3 --set lr=1", "--set epochs contradict"),
    ("train lenet300 --data glyphs --set lr=2 --set lr=1", "--set: lr is given twice"),
    ("compress lenet300 --download", "--download goes with --data NAME"),
    ("sweep . --seeds 3", ". is a folder, whose sweep is shown: --seeds go with a model"),
    ("sweep lenet300 --address h:1", "--address goes with --backend dask"),
    ("sweep lenet300 --backend dask --address h:1 --jobs 2", "--jobs goes with a cluster that"),
    ("sweep lenet300 --backend sequential --jobs 2", "--backend sequential runs one at a time"),
    ("vectors --seed 3", "--seed and --out go with NAME"),
    ("vectors --out x.json", "--seed and --out go with NAME"),
    ("paper --seeds 3", "--seeds, --out, --journal and --recorded go with NAME"),
    ("paper hinton2015 --recorded --seeds 2", "--recorded runs nothing: --seeds, --out"),
    ("paper han2015 --recorded", "table han2015 has no committed journal"),
    ("lesson build --check --expected", "--check looks at every notebook"),
    ("lesson build 4 --check", "--check looks at every notebook"),
    ("lesson build --seeds 3", "--data and --seeds go with --expected"),
    ("lesson build --no-solutions", "go with --html"),
    ("lesson build --mode smoke", "go with --html"),
])
def test_options_that_contradict_are_refused(words, message, here, capsys):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "eval --data glyphs", "lower",
                                     "compress --data glyphs", "sensitivity --data glyphs"])
@pytest.mark.parametrize("path, words", [(".", ". is a folder, not a file"),
                                         ("none.mcz", "no such file"),
                                         (os.devnull, " is a pipe or a device, not a file")])
def test_what_is_no_file_is_named_for_what_it_is(command, path, words, here, capsys):
    name, *rest = command.split()
    assert main([name, path, *rest]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and words in err, err
