"""The page's plots as SVG: localization accuracy against the threshold, and against the IoU that is asked for."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLOURS = ("#c2410c", "#0369a1", "#15803d", "#7e22ce", "#a16207", "#be123c", "#0f766e", "#4338ca")
"""The runs' colours, in their order, and again for dashed curves; report.css has lighter ones for a dark page."""
MOST_CURVES = 6
"""Curves that one plot holds; more of them are split over several."""

WIDTH, LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 360, 34, 24, 316, 168
LEGEND = PLOT_HEIGHT + 42
"""Pixels from the top of the plot down to the legend's first line, below the axis and its name."""
LONG = 56
"""Characters that fit into a line of a chart; longer ones are squeezed into it."""
LONG_TITLE = 42
"""The same for its title, which is larger."""
SQUEEZED = f' textLength="{PLOT_WIDTH - 12}" lengthAdjust="spacingAndGlyphs"'


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Attributes:
        label: who.
        colour: number of the run's colour.
        x: (T,) thresholds or IoUs.
        y: (T,) percent, NaN where there is none.
        mark: the x of the dot; None puts it on the highest point.
        run: the run's name in the gallery, to which its dot leads.
    """

    label: str
    colour: int
    x: np.ndarray
    y: np.ndarray
    mark: float | None = None
    run: str = ""


def charts(
    title: str, curves: Sequence[Curve], flat: Sequence[tuple[str, float]] = (), across: str = "threshold", **data: str
) -> list[str]:
    """Plots, as many as it takes for at most `MOST_CURVES` curves in each."""
    if not curves:
        return []
    count = -(-len(curves) // MOST_CURVES)
    each = -(-len(curves) // count)
    parts = [curves[start : start + each] for start in range(0, len(curves), each)]
    titles = [title] if count == 1 else [f"{title} ({number} of {count})" for number in range(1, count + 1)]
    return [chart(name, part, flat, across, **data) for name, part in zip(titles, parts, strict=True)]


def chart(
    title: str, curves: Sequence[Curve], flat: Sequence[tuple[str, float]] = (), across: str = "threshold", **data: str
) -> str:
    """An SVG with axes, curves, a dot on each, dashed lines for `flat` (label, percent), and a legend below; `across`
    names the axis of x.

    The script finds the plot's geometry in its data attributes, to read values off under the pointer; `data` adds some.
    """
    span = 1.0 if max(float(curve.x.max()) for curve in curves) > 0.3 else 0.2
    parts = [_title(title), *_axes(span, across)]
    parts += [_line("flat", [_at(0, y, span), _at(span, y, span)], tip=f"{label} {y:.1f}") for label, y in flat]
    for number, curve in enumerate(curves):
        parts += _curve(curve, number, span)
    parts.append('<line class="cursor" hidden=""/>')
    height = TOP + LEGEND + 13 * len(curves)
    place = (
        f'data-left="{LEFT}" data-top="{TOP}" data-width="{PLOT_WIDTH}" data-height="{PLOT_HEIGHT}" data-span="{span}"'
    )
    place += "".join(f' data-{name}="{html.escape(value)}"' for name, value in data.items())
    label = f"{html.escape(title)}: {html.escape('; '.join(_words(curve) for curve in curves))}"
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" tabindex="0" aria-label="{label}" {place}>'
        f"{''.join(parts)}</svg>"
    )


def _at(x: float, y: float, span: float) -> tuple[float, float]:
    return round(LEFT + PLOT_WIDTH * x / span, 2), round(TOP + PLOT_HEIGHT * (1 - y / 100), 2)


def _axes(span: float, across: str) -> list[str]:
    parts = [_text("tick", LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT + 26, across, ' text-anchor="end"')]
    for y in range(0, 101, 25):
        parts.append(_line("grid", [_at(0, y, span), _at(span, y, span)]))
        parts.append(_text("tick", LEFT - 5, _at(0, y, span)[1] + 3, f"{y}%", ' text-anchor="end"'))
    for x in (span * step / 4 for step in range(5)):
        parts.append(_text("tick", _at(x, 0, span)[0], TOP + PLOT_HEIGHT + 13, f"{x:g}", ' text-anchor="middle"'))
    return parts


def _curve(curve: Curve, number: int, span: float) -> list[str]:
    known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if np.isfinite(y)]
    mark_x, mark_y = _mark(curve)
    dot_x, dot_y = _at(mark_x, mark_y, span)
    tip = html.escape(_words(curve))
    row, (run, colour) = TOP + LEGEND + 13 * number, _paint(curve.colour)
    leads = f'data-run="{html.escape(curve.run)}" data-x="{mark_x}"'
    paint = f'class="dot {run}" fill="{colour}" stroke="{colour}" {leads}'
    squeezed = SQUEEZED if len(_words(curve)) > LONG else ""
    return [
        _line(f"curve {run}", [_at(x, y, span) for x, y in known], colour, curve.label),
        f'<circle {paint} cx="{dot_x}" cy="{dot_y}" r="3.5"><title>{tip}</title></circle>',
        f'<circle {paint} cx="{LEFT + 4}" cy="{row - 3}" r="4"/>',
        _text("key", LEFT + 12, row, _words(curve), f" {leads}{squeezed}"),
    ]


def _paint(number: int) -> tuple[str, str]:
    """Class names of a run's colour for the style sheet, and the colour for a plot that is saved without it."""
    again, place = divmod(number, len(COLOURS))
    return f"run{place}" + " again" * (again % 2), COLOURS[place]


def _mark(curve: Curve) -> tuple[float, float]:
    known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if np.isfinite(y)]
    if curve.mark is not None:
        return min(known, key=lambda point: abs(point[0] - curve.mark), default=(0.0, 0.0))
    return max(known, key=lambda point: point[1], default=(0.0, 0.0))


def _words(curve: Curve) -> str:
    x, y = _mark(curve)
    return f"{curve.label}: {y:.1f} at {x:.3g}"


def _line(kind: str, points: Sequence[tuple[float, float]], colour: str = "", tip: str = "") -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    stroke = f' stroke="{colour}" data-label="{html.escape(tip)}"' if colour else ""
    return f'<polyline class="{kind}"{stroke} points="{path}"><title>{html.escape(tip)}</title></polyline>'


def _title(title: str) -> str:
    return _text("name", LEFT, 15, title, SQUEEZED if len(title) > LONG_TITLE else "")


def _text(kind: str, x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}"{extra}>{html.escape(words)}</text>'


@dataclass(frozen=True)
class Whisker:
    """A figure with its interval.

    Attributes:
        label: who.
        value: in percent.
        low, high: of its 95 % interval.
        colour: number of the run's colour; None for what is no run.
    """

    label: str
    value: float
    low: float
    high: float
    colour: int | None = None


LINE = 26
"""Pixels a whisker and its name take."""


def whiskers(title: str, rows: Sequence[Whisker]) -> str:
    """An SVG with a line for each figure: its name, and below it a dot with the interval as whiskers, from 0 to 100."""
    bottom = TOP + LINE * len(rows)
    parts = [_title(title)]
    for percent in range(0, 101, 25):
        x = _across(percent)
        parts.append(_stroke("grid", x, TOP, x, bottom))
        parts.append(_text("tick", x, bottom + 13, str(percent), ' text-anchor="middle"'))
    for number, row in enumerate(rows):
        y = TOP + LINE * number + 19
        words = f"{row.label}: {row.value:.1f} ({row.low:.1f}-{row.high:.1f})"
        parts.append(_text("key", LEFT, y - 8, words, SQUEEZED if len(words) > LONG else ""))
        parts.append(_stroke("whisker", _across(row.low), y, _across(row.high), y))
        parts += [_stroke("whisker", _across(end), y - 3, _across(end), y + 3) for end in (row.low, row.high)]
        run, colour = ("plain", "#57534e") if row.colour is None else _paint(row.colour)
        paint = f'class="dot {run}" fill="{colour}" stroke="{colour}"'
        parts.append(f'<circle {paint} cx="{_across(row.value)}" cy="{y}" r="4"/>')
    said = "; ".join(f"{row.label} {row.value:.1f}, {row.low:.1f} to {row.high:.1f}" for row in rows)
    label = html.escape(f"{title}: {said}")
    size = f'viewBox="0 0 {WIDTH} {bottom + 20}"'
    return f'<svg class="whiskers" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _across(percent: float) -> float:
    return round(LEFT + PLOT_WIDTH * percent / 100, 2)


def _stroke(kind: str, x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="{kind}" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>'
