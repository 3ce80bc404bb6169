import numpy as np
import pytest

from minicomp.report.search_plots import plot_searches

matplotlib = pytest.importorskip("matplotlib")


def test_lines_begin_where_every_run_has_a_net_and_the_front_is_a_staircase():
    spent = np.array([1.0, 2.0, 3.0])
    runs = {"random": np.array([[5.0, 4.0, 3.0], [7.0, 6.0, 5.0]]),
            "late": np.array([[np.nan, 4.0, 4.0], [4.0, 4.0, 4.0]])}
    ax = plot_searches(spent, runs, [100, 200, 300, 400], np.array([9.0, 10.0, 4.0, 5.0]),
                       limit=350, best=3.0)
    thick = {line.get_label(): line for line in ax.lines if line.get_linewidth() == 2}
    assert thick["random"].get_ydata().tolist() == [6, 5, 4]
    assert thick["late"].get_xdata().tolist() == [2, 3]
    assert len(ax.lines) == 2 * 2 + 2 + 1  # runs, means, the optimum
    right = ax.figure.axes[1]
    front, limit = right.lines
    assert front.get_xydata().tolist() == [[100, 9], [300, 4]]
    assert list(limit.get_xdata()) == [350, 350]
    assert "%" in ax.get_xlabel() and "bytes" in right.get_xlabel()
