"""The judgement of a training: losses of the same rows before its first step and after its last, read by the same code.

Rows that were held out, or where there are too few of them, some that were trained on; each measurement names which. The
reference of preference training is the model before the first step.

Belongs here: measuring. Not here: which rows are held out (`domain/training_length.py`), or what is enough (`checks`).
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
import torch
from torch.nn.functional import logsigmoid

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.training_length import HELD_OUT_MAX
from speed_assets.workers.likelihood import answer_log_probs
from speed_assets.workers.training_jobs import Preference, Training

FILE = "judged.json"
PAIRS_MIN = 32
"""Fewest held-out pairs that judge a preference training alone: where 7 of 10 pairs are ranked rightly, at most half of
32 come out so by chance once in 72 trainings, and half of 8 once in 5. With fewer, pairs that were trained on judge."""
Sums = dict[str, list[tuple[float, int]]]
"""By answer column: of each row the log-probability of its answer in nats, and its tokens."""


class Judged:
    """The measurements of one training.

    Args:
        rows: trained on, with the columns of `training.encoded`.
        held: held out; may be empty.
        answers: the answer columns: one, or chosen and rejected.
        settings: the recipe's training section.
        seed: draws which of the trained rows are read.
    """

    def __init__(
        self, rows: pl.DataFrame, held: pl.DataFrame, answers: tuple[str, ...], settings: Training, seed: int
    ) -> None:
        self._answers, self._settings = answers, settings
        self._rows: dict[str, pl.DataFrame] = {}
        if len(held):
            self._rows["held_out"] = held
        if len(held) < (PAIRS_MIN if len(answers) > 1 else 1):
            self._rows["training_rows"] = _some(rows, answers, seed)
        self._before: dict[str, Sums] = {}
        self._measured: list[dict[str, Any]] = []
        self.moved = True
        """Whether any row is read otherwise than before: with weights that changed too little, none is."""

    def before(self, trainer: Any) -> None:
        """Read the rows with the model that training starts from."""
        self._before = {name: self._read(trainer, rows) for name, rows in self._rows.items()}

    def after(self, trainer: Any) -> list[dict[str, Any]]:
        """Read the rows again, and compare; the first one is the one to judge by.

        Of one answer: loss_before and loss_after, in nats a token. Of pairs: the loss as it is trained, reward_accuracy
        (share of pairs whose chosen answer gained more likelihood than the rejected one; a tie is half),
        reward_margin (mean of that gain, in nats times beta), and ranked_before and ranked_after (share of pairs whose
        chosen answer is the likelier one as such).
        """
        now = {name: self._read(trainer, rows) for name, rows in self._rows.items()}
        self.moved = now != self._before
        compare = self._pairs if len(self._answers) > 1 else self._losses
        found = [
            {
                "on": name,
                "rows": len(rows),
                **{key: round(value, 6) for key, value in compare(self._before[name], now[name]).items()},
            }
            for name, rows in self._rows.items()
        ]
        # Few held-out pairs come after those that judge.
        self._measured = sorted(found, key=lambda one: "training_rows" in self._rows and one["on"] == "held_out")
        return self._measured

    def points(self) -> dict[str, tuple[float, float]]:
        """Losses before and after, by what they were measured on: for the plot."""
        return {one["on"].replace("_", " "): (one["loss_before"], one["loss_after"]) for one in self._measured}

    def write(self, folder: Path) -> None:
        """Keep the measurements next to the model, for the checks."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(self._measured, indent=1) + "\n")

    def _read(self, trainer: Any, rows: pl.DataFrame) -> Sums:
        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        model.eval()  # no dropout
        prompts = rows["prompt_ids"].to_list()
        found: Sums = {}
        with trainer.accelerator.autocast():
            for name in self._answers:
                read = answer_log_probs(model, list(zip(prompts, rows[f"{name}_ids"].to_list(), strict=True)))
                found[name] = [(float(row.double().sum()), len(row)) for row in read]
        model.train(training)
        return found

    def _losses(self, was: Sums, now: Sums) -> dict[str, float]:
        (answer,) = self._answers
        return {"loss_before": _loss(was[answer]), "loss_after": _loss(now[answer])}

    def _pairs(self, was: Sums, now: Sums) -> dict[str, float]:
        better, worse = self._answers
        settings = self._settings
        assert isinstance(settings, Preference)
        ranked = [[a[0] - b[0] for a, b in zip(sums[better], sums[worse], strict=True)] for sums in (was, now)]
        gains = [after - before for before, after in zip(*ranked, strict=True)]
        losses = []
        for sums, margins in ((was, [0.0] * len(gains)), (now, gains)):
            loss = -fmean(logsigmoid(settings.beta * torch.tensor(margins, dtype=torch.float64)).tolist())
            losses.append(loss + settings.nll_weight * _loss(sums[better]))
        return {
            "loss_before": losses[0],
            "loss_after": losses[1],
            "reward_accuracy": fmean(1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in gains),
            "reward_margin": settings.beta * fmean(gains),
            "ranked_before": fmean(margin > 0 for margin in ranked[0]),
            "ranked_after": fmean(margin > 0 for margin in ranked[1]),
        }


def _loss(sums: list[tuple[float, int]]) -> float:
    """The mean over all tokens, as a training's loss is."""
    return -sum(total for total, _ in sums) / sum(tokens for _, tokens in sums)


def _some(rows: pl.DataFrame, answers: tuple[str, ...], seed: int) -> pl.DataFrame:
    """At most as many rows as are ever held out, drawn by their own hash."""
    drawn = [seed_for(seed, "judged", *texts) for texts in rows.select("prompt", *answers).iter_rows()]
    return rows[sorted(range(len(rows)), key=drawn.__getitem__)[:HELD_OUT_MAX]]
