"""Pictures as inline SVG: curves, intervals, shares. Colours are classes of style.css.

Every text goes through Markup.format, which escapes it.
"""

import math
from dataclasses import dataclass

from markupsafe import Markup

from medtune.report.marking import name_it
from medtune.report.texts import LANGUAGES, Text, Words, in_language, number

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 34, 44
MAX_POINTS, MAX_HOVERS = 240, 40
NUM_TICKS = 5
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A curve. has_marks: few points, each of which is drawn."""

    name: Words
    points: list[Point]
    has_marks: bool = False


@dataclass(frozen=True)
class Scale:
    """From a range of values to a range of pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.first + share * (self.last - self.first), 1)


def svg_text(words: Words, x: float, y: float, classes: str = "", anchor: str = "start") -> Markup:
    """Return a text of a drawing, one element for each language where they differ."""
    pattern = Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>')
    if not isinstance(words, Text) or words.zh == words.en:
        return pattern.format(x, y, classes, anchor, in_language(words, "en"))
    parts = [
        pattern.format(x, y, f"{classes} {language}".strip(), anchor, in_language(words, language))
        for language in LANGUAGES
    ]
    return Markup("").join(parts)


def finite(points: list[Point]) -> list[Point]:
    """Return the points that can be drawn."""
    return [point for point in points if all(map(math.isfinite, point))]


def thin(points: list[Point], most: int) -> list[Point]:
    """Return at most `most` points: means of as many equal runs; the last point stays itself."""
    if len(points) <= most:
        return points
    runs = [
        points[len(points) * n // (most - 1) : len(points) * (n + 1) // (most - 1)]
        for n in range(most - 1)
    ]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return [*means, points[-1]]


def ticks(low: float, high: float) -> list[float]:
    """Return round values between two, about NUM_TICKS. Example: 0, 1 -> 0, 0.2, … 1."""
    if not high > low:
        return [low]
    raw = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def draw_curves(title: Words, x_name: Words, series: list[Series]) -> Markup:
    """Return curves over one axis, with grid, legend and a hover title at each marked point."""
    drawn = [Series(s.name, thin(finite(s.points), MAX_POINTS), s.has_marks) for s in series]
    points = [point for one in drawn for point in one.points]
    x_high = max((x for x, _ in points), default=1.0)
    values = [y for _, y in points] or [0.0, 1.0]
    margin = 0.05 * (max(values) - min(values)) or 0.5
    to_x = Scale(0, x_high, LEFT, WIDTH - RIGHT)
    to_y = Scale(min(values) - margin, max(values) + margin, HEIGHT - BOTTOM, TOP)
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="img"{}>').format(WIDTH, HEIGHT, name_it(title)),
        *grid(to_x, to_y),
        svg_text(x_name, WIDTH / 2, HEIGHT - 8, "axis", "middle"),
    ]
    for position, one in enumerate(drawn):
        parts += curve(one, position, to_x, to_y)
    return Markup("").join([*parts, Markup("</svg>")])


def grid(to_x: Scale, to_y: Scale) -> list[Markup]:
    """Return the lines and numbers of both axes."""
    line = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    bottom, parts = HEIGHT - BOTTOM, []
    for value in ticks(to_y.low, to_y.high):
        y = to_y(value)
        parts.append(line.format(LEFT, y, WIDTH - RIGHT, y))
        parts.append(svg_text(number(value), LEFT - 6, y + 4, "tick", "end"))
    for value in ticks(to_x.low, to_x.high):
        x = to_x(value)
        parts.append(line.format(x, bottom, x, bottom + 4))
        parts.append(svg_text(number(value), x, bottom + 18, "tick", "middle"))
    return parts


def curve(one: Series, position: int, to_x: Scale, to_y: Scale) -> list[Markup]:
    """Return a curve, its entry in the legend, and circles that say what they stand for."""
    name = f"s{position + 1}"
    path = " ".join(f"{to_x(x)},{to_y(y)}" for x, y in one.points)
    legend_x = LEFT + position * 150
    parts = [
        Markup('<polyline class="curve {}" points="{}"/>').format(name, path),
        Markup('<line class="curve {}" x1="{}" y1="16" x2="{}" y2="16"/>').format(
            name, legend_x, legend_x + 26
        ),
        svg_text(one.name, legend_x + 32, 20, "legend"),
    ]
    dot = Markup('<circle class="{} {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    kind, radius = ("mark", 3.5) if one.has_marks else ("hover", 6)
    for x, y in thin(one.points, MAX_HOVERS):
        title = f"{in_language(one.name, 'en')} {number(y)} @ {number(x)}"
        parts.append(dot.format(kind, name, to_x(x), to_y(y), radius, title))
    return parts


@dataclass(frozen=True)
class Interval:
    """A value with its interval and whose it is."""

    name: Words
    value: float
    low: float
    high: float


def draw_intervals(intervals: list[Interval], chance: float | None) -> Markup:
    """Return values with their intervals below each other on one scale; a dashed line at chance."""
    bounds = [bound for one in intervals for bound in (one.low, one.high, one.value)]
    bounds += [chance] if chance is not None else []
    height = 16 * len(intervals) + 4
    to_x = Scale(min(bounds), max(bounds), 46, 190)
    parts = [
        Markup('<svg class="intervals" viewBox="0 0 200 {}" aria-hidden="true">').format(height)
    ]
    if chance is not None:
        line = Markup('<line class="chance" x1="{0}" y1="0" x2="{0}" y2="{1}"/>')
        parts.append(line.format(to_x(chance), height))
    bar = Markup(
        '<line class="interval" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        '<circle class="value" cx="{}" cy="{}" r="3.5"/>'
    )
    for row, one in enumerate(intervals):
        y = 16 * row + 10
        parts.append(svg_text(one.name, 40, y + 4, "tick", "end"))
        parts.append(bar.format(to_x(one.low), y, to_x(one.high), y, to_x(one.value), y))
    return Markup("").join([*parts, Markup("</svg>")])


def draw_share(share: float) -> Markup:
    """Return a bar that is filled to a share of 0 to 1."""
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" aria-hidden="true">'
        '<rect class="whole" width="100" height="10" rx="2"/>'
        '<rect class="part" width="{}" height="10" rx="2"/></svg>'
    ).format(round(100 * min(max(share, 0.0), 1.0), 1))
