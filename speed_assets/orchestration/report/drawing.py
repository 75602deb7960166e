"""Drawings of a report as SVG: the graph of stages, and scores with their intervals.

Belongs here: places, lines and labels; every label is escaped. Not here: what is drawn (`contents.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from speed_assets.domain.escaping import for_terminal

_WIDE, _HIGH = 168, 40
"""Pixels of a box."""
_GAP_X, _GAP_Y = 14, 20
"""Pixels between boxes."""
_BEND = 16
"""Pixels of the place that a line gets in a row that it passes."""
_MARKS = ("#1f5fa8", "#b5651d", "#4d7a4d", "#8a4f8a", "#7a7a7a", "#a83b3b")
"""Colours of models in the drawing of scores, which also have marks of their own for print without colour."""


@dataclass(frozen=True)
class Box:
    """A stage in the drawing: its name, one line about it, its kind, and whether it is made."""

    name: str
    line: str
    kind: str
    made: bool


def graph_svg(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> str:
    """The graph from top to bottom, each stage below its inputs.

    Args:
        boxes: The stages, inputs first.
        edges: (input, stage).
    """
    level: dict[str, int] = {}
    for box in boxes:
        level[box.name] = max((level[source] + 1 for source, name in edges if name == box.name), default=0)
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=0) + 1)]
    for box in boxes:
        rows[level[box.name]].append(box.name)
    paths = []
    for source, name in edges:  # a line that passes a row gets a place of its own in it
        bends = [f"{source} {name} {at}" for at in range(level[source] + 1, level[name])]
        for at, bend in enumerate(bends, level[source] + 1):
            rows[at].append(bend)
        paths.append([source, *bends, name])
    wide = {box.name: _WIDE for box in boxes}
    widths = [sum(wide.get(name, _BEND) + _GAP_X for name in row) for row in rows]
    width, height = max(widths, default=0), len(rows) * (_HIGH + _GAP_Y)
    place: dict[str, tuple[float, float]] = {}
    for number, (row, own) in enumerate(zip(rows, widths, strict=True)):
        x = (width - own + _GAP_X) / 2
        for name in row:
            place[name] = (x + wide.get(name, _BEND) / 2, number * (_HIGH + _GAP_Y) + 4)
            x += wide.get(name, _BEND) + _GAP_X
    parts = [_edge([place[name] for name in path]) for path in paths]
    parts += [_box(box, *place[box.name]) for box in boxes]
    return (
        f'<svg class="graph" role="img" aria-label="graph of stages" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(parts)}</svg>'
    )


def _edge(points: Sequence[tuple[float, float]]) -> str:
    """A line from below the first box, through bends, to above the last one; points are the middles of upper edges."""
    x, y = points[0]
    y += _HIGH
    path = f"M{x:.0f},{y:.0f}"
    for number, (to_x, to_y) in enumerate(points[1:], 2):
        middle = (y + to_y) / 2
        path += f" C{x:.0f},{middle:.0f} {to_x:.0f},{middle:.0f} {to_x:.0f},{to_y:.0f}"
        if number < len(points):  # straight down past the row
            path += f" v{_HIGH}"
            to_y += _HIGH
        x, y = to_x, to_y
    return f'<path class="edge" d="{path}"/>'


def _box(box: Box, middle: float, y: float) -> str:
    made = "" if box.made else " unmade"
    x = middle - _WIDE / 2
    return (
        f'<g class="box {escape(box.kind)}{made}"><rect x="{x:.0f}" y="{y:.0f}" width="{_WIDE}" height="{_HIGH}" rx="5"/>'
        f'<text class="name" x="{middle:.0f}" y="{y + 17:.0f}">{_text(box.name)}</text>'
        f'<text x="{middle:.0f}" y="{y + 32:.0f}">{_text(box.line)}</text></g>'
    )


def intervals_svg(models: Sequence[Mapping[str, Any]]) -> str:
    """Scores of each task on one axis of 0..1 (less where all are in a part of it), a line for each model's interval.

    Args:
        models: As in `sections.scores`.
    """
    tasks = list(models[0]["scores"])
    edges: list[float] = [
        value
        for model in models
        for score in model["scores"].values()
        for value in (score["score"], score["low"], score["high"])
        if value is not None
    ]
    low, high = max(-1.0, min(edges) - 0.03), min(1.0, max(edges) + 0.03)
    step = 14
    band = step * len(models) + 14
    left, wide, top = 210, 640, 26
    height = top + band * len(tasks) + 6

    def x(value: float) -> float:
        return left + wide * (value - low) / ((high - low) or 1)

    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{top - 6}" y2="{height}"/>'
        f'<text class="tick" x="{x(t):.1f}" y="{top - 10}">{t:.2f}</text>'
        for t in _ticks(low, high)
    ]
    for row, task in enumerate(tasks):
        y0 = top + row * band
        parts.append(f'<text class="task" x="{left - 10}" y="{y0 + band / 2:.0f}">{_text(task)}</text>')
        for place, model in enumerate(models):
            y, score = y0 + 8 + place * step, model["scores"][task]
            colour = _MARKS[place % len(_MARKS)]
            if score["low"] is not None:
                parts.append(
                    f'<line x1="{x(score["low"]):.1f}" x2="{x(score["high"]):.1f}" y1="{y}" y2="{y}" '
                    f'stroke="{colour}" stroke-width="2"/>'
                )
            parts.append(_mark(place, x(score["score"]), y, colour))
    legend = "".join(
        f'<span class="key"><svg width="14" height="14">{_mark(place, 7, 7, _MARKS[place % len(_MARKS)])}</svg>'
        f"{_text(model['name'])}</span>"
        for place, model in enumerate(models)
    )
    return (
        f'<div class="legend">{legend}</div><svg class="intervals" role="img" aria-label="scores with intervals" '
        f'viewBox="0 0 {left + wide + 20} {height}" width="{left + wide + 20}" height="{height}">{"".join(parts)}</svg>'
    )


def _mark(place: int, x: float, y: float, colour: str) -> str:
    if place == 0:
        return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"/>'
    if place % 2:
        return f'<rect x="{x - 4:.1f}" y="{y - 4}" width="8" height="8" fill="{colour}"/>'
    return f'<path d="M{x - 5:.1f},{y + 4} h10 l-5,-9 z" fill="{colour}"/>'


def _ticks(low: float, high: float) -> list[float]:
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 8), 0.5)
    first = -(-low // step)
    return [round((first + k) * step, 4) for k in range(20) if (first + k) * step <= high]


def _text(text: str) -> str:
    return escape(for_terminal(text))
