import pytest

import minicomp
from minicomp.errors import UserError


@pytest.mark.parametrize("thing", [None, 3, {"fc.weight": 1}])
def test_what_is_neither_a_model_nor_a_program_is_refused(thing, tmp_path):
    with pytest.raises(UserError, match="a file holds a Model or a Program, got"):
        minicomp.save(thing, tmp_path / "x.mcz")
    assert not list(tmp_path.iterdir())
