"""The senior generator: preferences of the teacher, a model aligned with them, and its output at scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from resources.externals import prompt_set
from resources.teacher import TeacherUse
from speed_assets.assets.stage import StageRun
from speed_assets.assets.training import train
from speed_assets.assets.writing import write_with
from speed_assets.domain.judging import Order, Preference, agree, explained_by_length, in_order, leanings, orders
from speed_assets.domain.parsing import Verdict, parse_verdict
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.rows import quarantined, refusal_or, unless_refused

PAIRS = {
    "row_id": pl.String,
    "task_type": pl.String,
    "prompt": pl.String,
    "chosen": pl.String,
    "rejected": pl.String,
    "margin": pl.Float64,
    "verdicts": pl.Int64,
    "judge_model": pl.String,
}


@dataclass
class _Group:
    """The candidates of one prompt, and what has been said of them."""

    row: dict[str, Any]
    verdicts: list[tuple[Order, Verdict | str]] = field(default_factory=list)
    judges: list[str] = field(default_factory=list)
    """Who gave each of the verdicts."""
    preference: Preference | None = None
    why_not: str | None = None
    refused: str | None = None


def preference_pairs(run: StageRun) -> dict[str, Any]:
    """Best and worst candidate of each prompt, asked in two orders, and in more while those disagree and the recipe
    allows; what stays without agreement is an abstention."""
    section = run.recipe.preference_pairs
    rows = (
        run.input("junior_data")
        .table()
        .group_by("row_id", maintain_order=True)
        .agg(pl.first("task_type", "task", "prompt"), pl.col("output").alias("candidates"))
        .head(getattr(section.prompts, run.task_type))
    )
    groups = [_Group(row) for row in rows.iter_rows(named=True)]
    rounds: list[TeacherUse] = []
    pending = groups
    for asked in range(0, section.orders_max, 2):
        rounds.append(_judge(run, pending, asked, min(asked + 2, section.orders_max)))
        pending = [group for group in pending if group.why_not == "orders_disagree" and group.refused is None]
        if not pending:
            break
    decided = [(group, group.preference) for group in groups if group.preference is not None]
    blamed = explained_by_length([(group.row["candidates"], said) for group, said in decided], section.length_share_max)
    for (group, _), length in zip(decided, blamed, strict=True):
        if length:
            group.preference, group.why_not = None, "explained_by_length"
    pairs = [
        {
            **{name: group.row[name] for name in ("row_id", "task_type", "prompt")},
            "chosen": group.preference.chosen,
            "rejected": group.preference.rejected,
            "margin": group.preference.margin,
            "verdicts": len(group.verdicts),
            "judge_model": ", ".join(dict.fromkeys(group.judges)),
        }
        for group in groups
        if group.preference is not None
    ]
    run.write(pl.DataFrame(pairs, schema=PAIRS))
    abstained = [
        {"row_id": group.row["row_id"], "reason": group.why_not, "raw": group.row["prompt"], "refused": group.refused}
        for group in groups
        if group.preference is None
    ]
    aside = pl.DataFrame(abstained, schema=dict.fromkeys(("row_id", "reason", "raw", "refused"), pl.String))
    aside = aside.with_columns(reason=unless_refused(pl.col("reason")))
    why = refusal_or("no pair from this prompt")
    run.write(quarantined(aside, run.stage.name, run.task_type, pl.col("reason"), why, pl.col("raw")), "quarantine")
    told: dict[str, list[tuple[list[str], Order, Verdict | str]]] = {}
    consistent: dict[str, list[bool]] = {}
    for group in groups:
        candidates = group.row["candidates"]
        said: dict[str, list[tuple[Order, Verdict | str]]] = {}
        for judge, verdict in zip(group.judges, group.verdicts, strict=True):
            said.setdefault(judge, []).append(verdict)
            told.setdefault(judge, []).append((candidates, *verdict))
        for judge, verdicts in said.items():
            consistent.setdefault(judge, []).append(agree(candidates, verdicts[:2])[1] != "orders_disagree")
    shares = {judge: round(sum(same) / len(same), 4) for judge, same in consistent.items()}
    return {
        "asked": len(groups),
        "consistent_share": min(shares.values(), default=1.0),
        "consistent_shares": shares,
        "abstentions": dict(aside["reason"].value_counts(sort=True).iter_rows()),
        "judge_leanings": {judge: leanings(verdicts) for judge, verdicts in told.items()},
        "asked_again": sum(len(group.verdicts) > 2 * len({*group.judges}) for group in groups),
        **sum(rounds[1:], start=rounds[0]).metadata(),
    }


def _judge(run: StageRun, groups: list[_Group], first: int, last: int) -> TeacherUse:
    """Ask for verdicts on the candidates of each group in its orders from `first` to `last`."""
    section, prompts = run.recipe.preference_pairs, prompt_set(run.recipe.prompts)
    shown = [
        (group, order)
        for group in groups
        for order in orders(len(group.row["candidates"]), section.orders_max)[first:last]
    ]
    texts = [
        prompts.judge(run.task_type, group.row["task"], in_order(group.row["candidates"], order))
        for group, order in shown
    ]
    uses = []
    for judge in (run.recipe.teacher.model, *section.panel):
        model = None if judge == run.recipe.teacher.model else judge
        answers, use = run.ask(texts, section.sampling, schema_for("judge", run.task_type), model=model)
        uses.append(use)
        for (group, order), answer in zip(shown, answers, strict=True):
            group.verdicts.append((order, parse_verdict(answer.text, len(order))))
            group.judges.append(judge)
            group.refused = group.refused or answer.error
    for group in groups:
        group.preference, group.why_not = agree(group.row["candidates"], group.verdicts, section.margin_min)
    return sum(uses[1:], start=uses[0])


def senior_model(run: StageRun) -> dict[str, Any]:
    """DPO from the junior, with the frozen junior as reference."""
    rows = run.input_rows("preference_pairs").select("prompt", "chosen", "rejected")
    return train(run, "dpo", rows, run.recipe.senior_model, start=run.input("junior_model"))


def senior_data(run: StageRun) -> dict[str, Any]:
    """One output of the model that writes at scale, for each row asked for."""
    section = run.recipe.senior_data
    writer = run.stage.inputs[1]  # in a rehearsal the teacher's examples come after it
    return write_with(run, writer, section.rows, 1, section.sampling, section.attempts)
