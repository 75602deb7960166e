"""The history of a training: means for metadata, `losses.jsonl`, plots.

Belongs here: the history of a trainer, read after the training. Not here: rows that judge it (`judged.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def summary(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The metadata of a training: means over the first and the last tenth of the steps."""

    def ends(name: str) -> tuple[float, float]:
        values = [entry[name] for entry in history]
        tenth = math.ceil(len(values) / 10)
        return fmean(values[:tenth]), fmean(values[-tenth:])

    found = dict(zip(("loss_first", "loss_last"), ends("loss"), strict=True))
    found["learning_rate_max"] = max(entry["learning_rate"] for entry in history)
    found["gradient_norm_last"] = ends("grad_norm")[1]
    found["gradient_norm_max"] = max(entry["grad_norm"] for entry in history)
    if "rewards/margins" in history[0]:
        found["reward_accuracy"] = ends("rewards/accuracies")[1]
        found["reward_margin"] = ends("rewards/margins")[1]
    return found


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, as many as a tenth of them all.

    >>> smoothed([4.0, 2.0, 3.0])
    [4.0, 2.0, 3.0]
    """
    window = math.ceil(len(values) / 10)
    return [fmean(values[max(0, place + 1 - window) : place + 1]) for place in range(len(values))]


def write_history(
    folder: Path,
    history: Sequence[dict[str, Any]],
    title: str = "",
    points: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """`losses.jsonl` and `loss.png`, and of preference training `rewards.png`.

    Args:
        folder: where they are written; it is made if it is missing.
        history: the trainer's log of each step: step, loss, learning_rate, grad_norm, and of preference training rewards.
        title: of the plot of losses.
        points: losses before the first step and after the last, by what they were measured on: they are drawn next to the curve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {"loss": "loss", "learning_rate": "learning_rate", "gradient_norm": "grad_norm"}
    lines = [{"step": entry["step"], **{name: entry[key] for name, key in names.items()}} for entry in history]
    (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _plot(folder / "loss.png", history, {"training loss": "loss"}, title, points)
    if "rewards/margins" in history[0]:
        rewards = {"share of pairs ranked rightly": "rewards/accuracies", "margin of rewards": "rewards/margins"}
        _plot(folder / "rewards.png", history, rewards)


def _plot(
    file: Path,
    history: Sequence[dict[str, Any]],
    curves: dict[str, str],
    title: str = "",
    points: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Each curve thin, and thick its mean over a tenth of the steps: single batches are noisy."""
    figure = Figure(figsize=(7, 3.5), layout="tight")
    axes = figure.subplots()
    steps = [entry["step"] for entry in history]
    for number, (label, key) in enumerate(curves.items()):
        values = [entry[key] for entry in history]
        axes.plot(steps, values, color=f"C{number}", linewidth=0.6, alpha=0.5)
        axes.plot(steps, smoothed(values), color=f"C{number}", linewidth=1.5, label=label)
    for number, (label, ends) in enumerate((points or {}).items(), len(curves)):
        axes.plot([0, steps[-1]], ends, "o", color=f"C{number}", label=label)
    axes.set(title=title, xlabel="step")
    if len(curves) + len(points or {}) > 1:
        axes.legend()
    else:
        axes.set_ylabel(next(iter(curves)))
    FigureCanvasAgg(figure).print_png(str(file))
