import numpy as np
import pytest

from minicomp.errors import UserError

pytest.importorskip("matplotlib")

from minicomp.report.channel_plots import plot_channel_ranges  # noqa: E402

RANGES = {"before": {"dw": np.array([0.01, 0.1, 1.0, 4.0]), "pw": np.array([0.5, 0.0, 1.0])},
          "equalised": {"dw": np.array([0.5, 0.6, 0.7, 1.0]), "pw": np.zeros(3)}}


def test_lines_reach_from_the_least_to_the_largest_and_the_factor_is_written(tmp_path):
    ax = plot_channel_ranges(RANGES)
    spans = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert (0.01, 4.0) in spans and (0.5, 1.0) in spans
    said = [t.get_text() for t in ax.texts]
    assert said == ["×400", "×2, 1 of 0", "×2", "all 3 of 0"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["dw", "pw"]
    assert ax.get_xscale() == "log" and "unit" in ax.get_xlabel()
    wide = plot_channel_ranges({"a": {"x": np.array([1e-3, 1.0, 70.0])}})
    assert [t.get_text() for t in wide.texts] == ["×70,000"]
    ax.figure.savefig(tmp_path / "x.png")
    one = plot_channel_ranges({"one": RANGES["before"]})
    assert len(one.get_legend().get_texts()) == 1


@pytest.mark.parametrize("ranges", [{}, {"a": {}}, {"a": {"x": np.ones(2)}, "b": {}}])
def test_other_layers_are_refused(ranges):
    with pytest.raises(UserError, match="ranges must hold the same layers"):
        plot_channel_ranges(ranges)
