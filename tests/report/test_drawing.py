"""Curves, intervals and shares: what is drawn is what was measured."""

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from medtune.report.drawing import (
    MAX_POINTS,
    Interval,
    Scale,
    Series,
    draw_curves,
    draw_intervals,
    draw_share,
    thin,
    ticks,
)
from medtune.report.lineage_drawing import Node, draw_chain
from medtune.report.texts import Text
from tests.report.building import HOSTILE

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def test_ticks_are_round() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0.3, 4.1) == [1, 2, 3, 4]
    assert ticks(0, 508) == [0, 200, 400]
    assert ticks(2, 2) == [2]


@given(FINITE, st.floats(1e-3, 1e6))
def test_ticks_lie_within_and_are_few(low: float, width: float) -> None:
    found = ticks(low, low + width)

    assert 1 <= len(found) <= 7
    assert all(low - width * 1e-6 <= value <= low + width * (1 + 1e-6) for value in found)


@given(st.lists(st.tuples(FINITE, FINITE), max_size=600), st.integers(2, 50))
def test_thinning_keeps_the_mean_and_the_end(points: list[tuple[float, float]], most: int) -> None:
    kept = thin(points, most)

    assert len(kept) <= max(most, 0)
    assert kept[-1:] == points[-1:]
    if len(points) <= most:
        assert kept == points
    elif len(points) % (most - 1) == 0:
        mean = sum(y for _, y in points) / len(points)
        assert math.isclose(sum(y for _, y in kept[:-1]) / (most - 1), mean, abs_tol=1e-3)


def test_a_scale_maps_its_ends() -> None:
    to_y = Scale(0, 10, 200, 100)

    assert [to_y(value) for value in (0, 5, 10)] == [200, 150, 100]
    assert Scale(3, 3, 0, 100)(3) == 50


def test_curves_draw_every_point_and_say_what_it_is() -> None:
    held_out = Series("validation", [(0.0, 2.0), (10.0, 1.0)], has_marks=True)
    drawn = draw_curves("loss", "step", [Series("training", [(0.0, 3.0), (10.0, 1.0)]), held_out])

    assert len(re.findall("<polyline", drawn)) == 2
    assert "<title>validation 2 @ 0</title>" in drawn
    top, bottom = re.findall(r'class="mark s2" cx="[\d.]+" cy="([\d.]+)"', drawn)
    assert float(top) < float(bottom)


def test_curves_pass_over_what_is_no_number_and_bound_their_size() -> None:
    points = [(float(n), math.sin(n)) for n in range(100_000)]
    points[5] = (5.0, float("nan"))
    points[6] = (6.0, float("inf"))
    drawn = draw_curves("loss", "step", [Series("training", points)])

    (path,) = re.findall(r'points="([^"]*)"', drawn)
    assert len(path.split()) == MAX_POINTS
    assert "nan" not in drawn and "inf" not in drawn
    assert len(drawn) < 20_000


def test_curves_of_nothing_and_of_one_value_are_drawn() -> None:
    assert draw_curves("loss", "step", []).endswith("</svg>")
    assert "nan" not in draw_curves("loss", "step", [Series("one", [(0.0, 1.0)])])


def test_intervals_share_one_scale_with_chance() -> None:
    drawn = draw_intervals([Interval("base", 0.3, 0.2, 0.4), Interval("SFT", 0.9, 0.8, 1.0)], 0.2)

    (chance,) = re.findall(r'class="chance" x1="([\d.]+)"', drawn)
    starts = re.findall(r'class="interval" x1="([\d.]+)"', drawn)
    assert chance == starts[0] and float(starts[1]) > float(starts[0])


def test_a_share_fills_its_part_and_no_more() -> None:
    assert 'width="25.0"' in draw_share(0.25)
    assert 'width="100.0"' in draw_share(1.7)


def test_texts_in_drawings_are_escaped() -> None:
    node = Node(HOSTILE, Text(HOSTILE, "x"), True, False, [])
    hostile = Text(HOSTILE, HOSTILE + "!")
    for drawn in (
        draw_chain([node], HOSTILE),
        draw_curves(hostile, hostile, [Series(hostile, [(0.0, 1.0)])]),
        draw_intervals([Interval(hostile, 1, 0, 2)], None),
    ):
        assert "<script" not in drawn and "<img" not in drawn
        assert not re.search(r'"\'><', drawn)
