# Names that a stranger chose reach a terminal and a page as plain text: no escape sequence, no
# direction mark, no more than a line of it. And nets that a stranger made run only if they are of a
# size that is common.
import json
import zlib

import numpy as np
import pytest

from minicomp import save
from minicomp.cli import main
from minicomp.cli.progress import Screen, print_table
from minicomp.codec.envelope import seal
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.exchange.safetensors import save_safetensors
from minicomp.jobs.job import MAX_OPERATIONS, check_work
from minicomp.models import MODELS
from minicomp.nn import AvgPool2d, Conv2d, Flatten, Linear, Model, Node, chain
from minicomp.nn.layers import AdaptiveAvgPool2d
from minicomp.nn.taps import ACTIVATIONS, fitting, observe
from minicomp.report.html import Notes, Page, Table, render
from minicomp.train import evaluate

ODD = "a\x1b[31mb\u202ec"


def said(capsys):
    out, err = capsys.readouterr()
    text = out + err
    assert all(c.isprintable() or c == "\n" for c in text), repr(text)
    return text


def header_file(path, header):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(json.dumps(header).encode()) + packer.flush()
    path.write_bytes(seal("model", packed, []))


@pytest.mark.parametrize("header", [
    {"input": [4], "nodes": [["f", "Linear", {ODD: 1}, ["x"]]]},
    {"input": [4], "nodes": [[ODD, "ReLU", {}, ["x"]]]},
    {"input": [4], "nodes": [["f", ODD, {}, ["x"]]]},
    {"input": [4], "nodes": [["f", "ReLU", {}, [ODD]]]},
    {"input": [4], "nodes": [], ODD: 1},
    {"input": [4], "nodes": [["n" * 500_000, "ReLU", {}, ["x"]]]},
    {"builtin": ODD},
    {"builtin": "lenet5", "args": {ODD: 1}},
    {"builtin": "lenet5", "data": ODD},
])
def test_what_a_file_says_is_printed_plain_and_short(header, tmp_path, capsys):
    path = tmp_path / "\x1b[31m.mcz"
    header_file(path, header)
    assert main(["show", str(path)]) == 2
    text = said(capsys)
    assert len(text) < 1500 and text.count("\n") == 1 and r"\x1b[31m.mcz" in text


def test_names_in_tables_are_plain(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    header = {ODD: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
              "n" * 5000: {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    assert main(["show", str(path)]) == 0
    text = said(capsys)
    assert r"\x1b[31mb" in text.replace("\n", "") and "n" * 500 not in text


def test_cells_titles_and_lines_are_plain(capsys):
    print_table(ODD, ["name", "n"], [[ODD, 1], ["n" * 9000, 2]], footer=ODD)
    Screen().say(f"{ODD}\n{ODD}")
    text = said(capsys)
    assert text.count(r"\x1b[31mb") == 5 and "n" * 500 not in text.replace("\n", "")


def test_names_in_a_page_are_plain():
    table = Table(ODD, [ODD, "b"], [[ODD, 1], ["n" * 9000, 2]], ODD)
    page = render(Page(ODD, ODD, [(ODD, ODD, ODD)], [table, Notes(ODD, [(ODD, ODD)]), ODD], ODD))
    assert "\x1b" not in page and "\u202e" not in page and r"\x1b[31m" in page
    assert "n" * 2001 not in page


# ------------------------------------------------------------------------ what a net may cost


def pools(size):
    return Model(chain(("up", AdaptiveAvgPool2d(size)), ("down", AdaptiveAvgPool2d(1)),
                       ("flat", Flatten()), ("fc", Linear(1, 10))), input_shape=(1, 28, 28))


def test_a_batch_follows_the_activations():
    fewer = {"mobilenetv2": 22, "mobilenetv1": 114, "resnet20": 148, "squeezenet1_0": 247,
             "squeezenet1_1": 433, "shufflenet": 69, "xception": 206}
    for name, net in MODELS.items():  # what is common here runs as ever
        assert fitting(net(), 500) == fewer.get(name, 500), name
    assert fitting(pools(8000), 500) == ACTIVATIONS // pools(8000).activation_bytes() == 2
    assert fitting(pools(30_000), 500) == 1
    program = lower(MODELS["lenet5"]())
    assert fitting(program, 500) == 500 and program.activation_bytes() > 4 * 11520


def test_declared_for_one_it_is_run_for_few(monkeypatch):
    seen = []

    def run(self, x, *args, **kw):
        seen.append(len(x))
        return call(self, x, *args, **kw)

    call = Model.__call__
    monkeypatch.setattr(Model, "__call__", run)
    model = pools(400)
    split = Split(np.zeros((900, 1, 28, 28), np.float32)[:900], np.zeros(900, np.int64))
    monkeypatch.setattr("minicomp.nn.taps.ACTIVATIONS", 10 * model.activation_bytes())
    assert evaluate(model, split).size == 900 and set(seen) == {10}
    shapes = [len(found["down"]) for found in observe(model, split.x[:25], ["down"])]
    assert shapes == [10, 10, 5]
    seen.clear()
    evaluate(MODELS["lenet300"](), split)
    assert seen == [500, 400]


def test_operations_count_what_takes_time():
    net = Model(chain(("fc", Linear(3, 5))), input_shape=(3,))
    assert net.operations() == 15 + 3 + 5 * 1  # its MACs, what it reads, what it gives
    pool = Model(chain(("p", AvgPool2d(4))), input_shape=(2, 8, 8))
    assert pool.macs() == {"p": 0} and pool.operations() == 2 * 64 + 2 * 4 * 16
    assert lower(net).operations() == pytest.approx(net.operations(), abs=5)
    assert lower(pool).operations() == pool.operations()
    wide = Model([Node("fc", Linear(10**5, 10**3))], input_shape=(10**5,))
    check_work(wide, MAX_OPERATIONS // wide.operations())
    with pytest.raises(UserError, match="1.0e.08 operations an example.*raise --max-operations"):
        check_work(wide, MAX_OPERATIONS // wide.operations() + 1)
    # every built-in net may run on a test set, and be lowered with it
    for name in MODELS:
        check_work(MODELS[name](), 20_000)


@pytest.mark.parametrize("command", ["eval", "compress", "sensitivity", "train"])
def test_a_net_that_takes_a_day_is_refused_unless_asked(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    day = chain(("up", AdaptiveAvgPool2d(8000)), ("c", Conv2d(1, 1, 11, padding=5)),
                ("down", AdaptiveAvgPool2d(1)), ("flat", Flatten()), ("fc", Linear(1, 10)))
    save(Model(day, input_shape=(1, 28, 28)), "big.mcz")
    assert main([command, "big.mcz", "--data", "glyphs"]) == 2
    assert "for 2,000: more than 4.0e+12; if that is meant" in said(capsys)
    save_safetensors(MODELS["lenet300"]().state_dict(), "a.safetensors")
    words = [command, "a.safetensors", "--model", "lenet300", "--data", "glyphs"]
    assert main([*words, "--max-operations", "1000"]) == 2
    assert "more than 1.0e+03" in said(capsys)
