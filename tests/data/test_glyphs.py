import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import data
from minicomp.data import glyphs
from minicomp.errors import DataError


def test_pixels_of_seed_0_are_the_pinned_ones():
    # The same on any platform, NumPy, Matplotlib and FreeType: the whole data set, bit for bit.
    assert glyphs.outlines_sha256() == glyphs.OUTLINES_SHA256
    x, y = glyphs.digits(sum(data.GLYPHS.values()), seed=0)
    assert hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() == data.GLYPHS_SHA256
    assert x.shape == (16000, 28, 28) and x.dtype == np.uint8


def test_fewer_are_the_first_of_more_and_seeds_differ():
    (x, y), (more, more_y) = glyphs.digits(50, seed=3), glyphs.digits(120, seed=3)
    np.testing.assert_array_equal(x, more[:50])
    np.testing.assert_array_equal(y, more_y[:50])
    assert (glyphs.digits(50, seed=4)[0] != x).any()


def test_every_digit_is_drawn_visible_and_about_equally_often():
    x, y = glyphs.digits(2000, seed=1)
    assert abs(np.bincount(y, minlength=10) - 200).max() < 60  # 4.5 standard deviations
    ink = x.sum(axis=(1, 2)) / 255
    assert ink.min() > 15 and ink.max() < 500
    assert x.max() == 255 and (x[:, 0, 0] == 0).mean() > 0.99  # white digit on black
    assert len(np.unique(x, axis=0)) == 2000


def filled(points, shape=(28, 28)):
    points = np.asarray(points, np.float64)
    n = len(points)
    return glyphs.raster((points * glyphs.UNIT).astype(np.int64)[None], np.roll(np.arange(n), -1))[
        0
    ]


def test_raster_of_a_rectangle_by_hand():
    # x from 3.5 to 6.25 and y from 2 to 4.5: a quarter of the last column, half of the last row
    image = filled([(3.5, 2), (6.25, 2), (6.25, 4.5), (3.5, 4.5)])
    rows, columns = np.array([1, 1, 0.5]), np.array([0.5, 1, 1, 0.25])
    np.testing.assert_array_equal(image[2:5, 3:7], np.floor(255 * np.outer(rows, columns) + 0.5))
    assert np.count_nonzero(image) == 12


def test_raster_leaves_the_hole_of_a_ring():
    outer, inner = [(2, 2), (12, 2), (12, 12), (2, 12)], [(5, 5), (5, 9), (9, 9), (9, 5)]
    points = np.array(outer + inner) * glyphs.UNIT
    ends = np.array([1, 2, 3, 0, 5, 6, 7, 4])
    image = glyphs.raster(points[None], ends)[0]
    assert image[3, 3] == 255 and image[6, 6] == 0 and (image > 0).sum() == 100 - 16


@given(st.lists(st.tuples(st.floats(-5, 33), st.floats(-5, 33)), min_size=3, max_size=3))
def test_raster_of_a_triangle_covers_its_area(corners):
    # Against the area of the triangle clipped to the image, by counting fine sample points.
    p = np.asarray(corners)
    fine = (np.arange(28 * 16) + 0.5) / 16
    gx, gy = np.meshgrid(fine, fine)
    edges = [(p[i], p[(i + 1) % 3]) for i in range(3)]
    side = np.array([(b[0] - a[0]) * (gy - a[1]) - (b[1] - a[1]) * (gx - a[0]) for a, b in edges])
    inside = ((side > 0).all(axis=0) | (side < 0).all(axis=0)).mean() * 784
    # A column of the image meets two edges; each is off by at most an eighth of a row (4 scanlines)
    # here and a 32nd there, and 784 bytes round by half a level: 28 * 2 * (1/8 + 1/32) + 784/510.
    assert abs(filled(corners).sum() / 255 - inside) < 10.3
    assert abs(int(filled(corners).sum()) - int(filled(corners[::-1]).sum())) < 28 * 6


def test_raster_clips_what_is_outside():
    image = filled([(-50, -50), (80, -50), (80, 80), (-50, 80)])
    assert (image == 255).all()
    assert not filled([(30, 0), (40, 0), (40, 28), (30, 28)]).any()
    assert not filled([(3, 3), (3, 3), (3, 3)]).any()


def test_outlines_are_in_whole_font_units_and_filled_on_one_side():
    for font in range(len(glyphs.FONTS)):
        for digit in range(10):
            vertices, _ = glyphs.outline(font, digit)
            np.testing.assert_array_equal(2 * vertices, np.rint(2 * vertices))
            p, ends = glyphs.polygon(font, digit)
            assert np.isclose((p.max(axis=0) - p.min(axis=0)).max(), 1.0)
            assert sorted(ends) == list(range(len(p)))  # closed: each point is reached once
            # an outline moved outwards encloses more
            wider = glyphs.thicken(20 * p[None], ends, np.array([0.5]))[0] / 20
            assert _area(wider, ends) > _area(p, ends) > 0


def _area(p, ends):
    return (p[:, 0] * p[ends, 1] - p[ends, 0] * p[:, 1]).sum() / 2


def test_undistorted_points_keep_their_shape():
    u = np.zeros((1, glyphs.DRAWS - 2))
    p = np.array([[-0.5, -0.5], [0.5, 0.5], [0.25, 0.0]])
    np.testing.assert_allclose(glyphs.place(p, u)[0], 14 + 20 * p)
    np.testing.assert_allclose(glyphs.bend(glyphs.place(p, u), u)[0], 14 + 20 * p)


def test_place_turns_without_changing_lengths():
    u = np.zeros((1, glyphs.DRAWS - 2))
    u[0, :2] = 1.0
    p = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.5]])
    placed = glyphs.place(p, u)[0]
    np.testing.assert_allclose(np.linalg.norm(placed[1] - placed[0]), 20.0)
    angle = np.arctan2(*(placed[1] - placed[0])[::-1])
    np.testing.assert_allclose(angle, 2 * np.arctan(glyphs.TURN))


def test_a_constant_field_moves_everything_alike():
    # The splines sum to 1.
    u = np.zeros((1, glyphs.DRAWS - 2))
    u[0, glyphs.AFFINE :] = np.tile([0.5, -1.0], glyphs.LATTICE**2)
    p = np.random.default_rng(0).uniform(0, 28, (1, 50, 2))
    np.testing.assert_allclose(
        glyphs.bend(p, u) - p, np.broadcast_to(glyphs.BEND * np.array([0.5, -1]), p.shape)
    )


def test_missing_font_is_a_data_error(monkeypatch, tmp_path):
    import matplotlib

    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match=r"no font .*DejaVuSans.ttf; .*minicomp data get mnist"):
        glyphs.outline(0, 3)
