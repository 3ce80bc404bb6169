"""What is said of words that a command does not know."""

import pytest

from minicomp.cli import main


@pytest.mark.parametrize("words, says", [
    ("copress", "minicomp: unknown command 'copress'; did you mean compress or compare; see "
     "minicomp --help"),
    ("--verison", "minicomp: unknown option --verison; did you mean --version; "),
    ("train lenet300 --epochs 3",
     "minicomp train: unknown option --epochs; a knob of the training is written --set epochs=3; "
     "see minicomp train --help"),
    ("train --epochs 3", "written --set epochs=3; "),
    ("train --batch-size=64", "written --set batch_size=64; "),
    ("compress --epochs 3", "a knob is written in its step, --with finetune:epochs=3; "),
    ("compress lenet5 --sparsity=0.9", "its step, --with magnitude:sparsity=0.9; "),
    ("compress --bits", "its step, --with kmeans:bits=...; "),
    ("compress --see 4", "minicomp compress: unknown option --see; did you mean --seed; "),
    ("train --see 4", "minicomp train: unknown option --see; did you mean --seed"),
    ("eval a.mcz --dat glyphs", "minicomp eval: unknown option --dat; did you mean --data; "),
    ("eval a.mcz b.mcz", "minicomp eval: 'b.mcz' is more than it takes; "),
    ("show a.mcz -x", "minicomp show: unknown option -x; there are --help, "),
    ("sensitivity lenet5 --what chanels",
     "minicomp sensitivity: unknown value of --what 'chanels'; did you mean channels; "),
    ("lesson opn 4", "minicomp lesson: unknown command 'opn'; did you mean open; "),
    ("lesson grade 4 f --jsn g", "minicomp lesson grade: unknown option --jsn; did you mean --js"),
    ("data gett mnist", "minicomp data: unknown command 'gett'; did you mean get; "),
    ("bench --aganst python", "minicomp bench: unknown option --aganst; did you mean --against; "),
    ("eval a.mcz --thr\x1b[31m 2", r"unknown option --thr\x1b[31m"),
])
def test_the_command_and_the_nearest_word_are_named(words, says, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split(" "))
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and says in said
