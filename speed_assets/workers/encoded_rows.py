"""Rows of a training as token ids: which of them fit, which are held out, in what order the others come.

Belongs here: from a table to what a trainer takes. Not here: prompts and answers as tokens (`dialogue.py`), or training.
"""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import polars as pl
import torch
from accelerate import PartialState

from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.training_length import hold_out
from speed_assets.workers import machine
from speed_assets.workers.dialogue import Dialogue
from speed_assets.workers.training_jobs import FineTune

REFUSED_ROWS, REFUSED_SHARE = 3, 0.05
"""Rows over `max_length` are rejected; when they are more than both of these (ours), the setting is wrong, not the rows."""
POOL_BATCHES = 16
"""Batches in a pool of rows that is sorted by length."""
IGNORED = -100
"""The label of a token that is not learnt."""


def encoded(rows: pl.DataFrame, answers: tuple[str, ...], dialogue: Dialogue) -> pl.DataFrame:
    """`rows` with the token ids of prompts and answers (`prompt_ids`, `<answer>_ids`) and `tokens`, those of prompt and
    longest answer together.

    Raises:
        ValueError: there are no rows.
    """
    if rows.is_empty():
        raise ValueError("no rows to train on: the table is empty")
    prompts = rows["prompt"].to_list()
    ids = {"prompt_ids": dialogue.prompt_ids(prompts)}
    ids |= {f"{name}_ids": dialogue.answer_ids(prompts, rows[name].to_list()) for name in answers}
    columns = [pl.Series(name, values, dtype=pl.List(pl.Int64)) for name, values in ids.items()]
    longest = pl.max_horizontal(pl.col(f"{name}_ids").list.len() for name in answers)
    return rows.with_columns(columns).with_columns(
        (pl.col("prompt_ids").list.len() + longest).cast(pl.Int64).alias("tokens")
    )


def fitting_rows(
    rows: pl.DataFrame, answers: tuple[str, ...], job: FineTune, context: int | None
) -> tuple[pl.DataFrame, int]:
    """The rows that fit `max_length`, and that length; the others are written to `aside/too_long.parquet`.

    A length that the settings leave open is the longest prompt, the most tokens that an answer was given and its end.
    None is longer than the model's context.

    Args:
        rows: with the columns of `encoded`.
        answers: the answer columns.
        job: its `settings.max_length` and `answer_tokens` count.
        context: tokens that the model has positions for, or None.

    Raises:
        ValueError: more rows do not fit than chance explains.
    """
    given = job.settings.max_length
    if given is None:
        room = job.answer_tokens
        prompts = rows["prompt_ids"].list.len().to_list()
        given = max(prompts) + room + 1 if room else max(rows["tokens"].to_list())
    longest = min(given, context or given)
    fits = rows["tokens"] <= longest
    refused = rows.filter(~fits)
    if len(refused) > max(REFUSED_ROWS, REFUSED_SHARE * len(rows)):
        lengths = rows["tokens"].to_numpy()
        raise ValueError(
            f"{len(refused)} of {len(rows)} rows are longer than max_length = {longest} tokens (the longest has "
            f"{lengths.max()}, the median {float(np.median(lengths)):.0f}): raise max_length, or leave it out so that "
            "it follows from the data, or shorten prompts or answers"
            + ("" if longest == given else f"; the base has room for {context} tokens")
        )
    if len(refused) and machine.leads():
        aside = Path(job.out) / "aside"
        aside.mkdir(parents=True, exist_ok=True)
        shown = refused.drop("prompt_ids", *(f"{name}_ids" for name in answers))
        shown.with_columns(max_length=pl.lit(longest)).write_parquet(aside / "too_long.parquet")
    return rows.filter(fits), longest


def split(rows: pl.DataFrame, answers: tuple[str, ...], job: FineTune) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows to train on, and those that are held out to judge the training by."""
    texts = rows.select("prompt", *answers).rows()
    held = pl.Series(hold_out(texts, job.settings.held_out, job.seed), dtype=pl.Boolean)
    return rows.filter(~held), rows.filter(held)


def in_order(rows: pl.DataFrame, answers: tuple[str, ...], batch_size: int, seed: int) -> pl.DataFrame:
    """The rows in training order.

    Args:
        rows: `encoded`.
        answers: names of the answers.
        batch_size: rows in an optimizer step.
        seed: of the order.

    Raises:
        AssertionError: the end of a row would not be learnt.
    """
    for name in answers:  # the ids of an answer are what is learnt: its end is there, once
        ends = rows[f"{name}_ids"].list.last()
        assert ends.n_unique() == 1, f"answers of {name} end in several tokens"
        assert (rows[f"{name}_ids"].list.count_matches(ends[0]) == 1).all(), f"an end token inside an answer of {name}"
    order = training_order(rows["tokens"].to_numpy(), batch_size, seed)
    return rows[order]


def trained_columns(rows: pl.DataFrame, answers: tuple[str, ...]) -> pl.DataFrame:
    """What the trainers take: of one answer `input_ids` and `labels`, else the ids of prompt and answers apart.

    Labels are the answer and its end, by length and not by token, so that a padding token can hide no end.
    """
    if len(answers) > 1:
        return rows.select("prompt_ids", *(f"{name}_ids" for name in answers))
    (name,) = answers
    masked = pl.col("prompt_ids").list.eval(pl.element() * 0 + IGNORED)
    return rows.select(
        pl.concat_list("prompt_ids", f"{name}_ids").alias("input_ids"),
        pl.concat_list(masked, f"{name}_ids").alias("labels"),
    )


def training_order(lengths: np.ndarray, batch_size: int, seed: int) -> np.ndarray:
    """The order of rows, as positions in `lengths`, that puts rows of like length into one batch.

    Batches are in random order, so that no stretch of the training sees short rows only; only an incomplete one
    is last. Rows are sorted within pools of `POOL_BATCHES`, so that lengths are alike and batches still differ.
    """
    generator = np.random.default_rng(seed_for(seed, "training order"))
    shuffled = generator.permutation(len(lengths))
    size = POOL_BATCHES * batch_size
    pools = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    whole = len(ordered) // batch_size * batch_size
    batches = generator.permutation(ordered[:whole].reshape(-1, batch_size))
    return np.concatenate([batches.reshape(-1), ordered[whole:]])


def dataset(rows: pl.DataFrame, folder: Path) -> datasets.Dataset:
    """The rows as a data set on disk in `folder`: what is computed over it is there for other processes and attempts."""
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        if not (folder / "rows").exists():
            unfinished = folder / "rows.unfinished"
            datasets.Dataset.from_dict(rows.to_dict(as_series=False)).save_to_disk(unfinished)
            unfinished.rename(folder / "rows")
    return datasets.load_from_disk(folder / "rows")
