"""The senior generator: preferences of the teacher, a model aligned with them, and its output at scale."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, get_args

import polars as pl

from resources.teacher.teacher_use import TeacherUse
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.train_stage import train
from speed_assets.assets.writing import keeping_rules, write_with
from speed_assets.domain.answers import CUT_OFF
from speed_assets.domain.graph import Writer
from speed_assets.domain.judging import (
    Order,
    Preference,
    agreed_preference,
    candidates_in_order,
    explained_by_length,
    judge_biases,
    judge_contradicts_itself,
    presentation_orders,
)
from speed_assets.domain.parsing import Verdict, parse_verdict
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.records import canonical_record
from speed_assets.domain.rows import problem_or_refusal
from speed_assets.domain.task_types import TASK_TYPES
from speed_assets.recipe import PreferencePairs, PreferenceTraining, RecipeError, SeniorData

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


_DISPUTED = ("orders_disagree", "low_margin")
"""Why a group has no preference yet, where further orders may give one."""
_RAW_CHARACTERS = 18_000
"""Characters of what the quarantine keeps of one prompt: all its texts together, each cut to an equal share (ours)."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One answer of the junior. `text` is its record as it is trained on, or its raw output where no valid record was read;
    `problem` is why it may not be chosen."""

    text: str
    problem: str | None


@dataclass
class _Group:
    """The candidates of one prompt, and the verdicts on them."""

    row: dict[str, Any]
    candidates: list[_Candidate]
    """Those that the judge is shown: finished ones, each text once."""
    verdicts: list[tuple[Order, Verdict | str]] = field(default_factory=list)
    judges: list[str] = field(default_factory=list)
    """Who gave each of the verdicts."""
    replies: list[str] = field(default_factory=list)
    """The raw text of each of the verdicts."""
    preference: Preference | None = None
    why_not: str | None = None
    detail: str = "no pair from this prompt"
    refused: str | None = None

    @property
    def texts(self) -> list[str]:
        return [candidate.text for candidate in self.candidates]

    def read(self, margin_min: float) -> None:
        """Find what the verdicts support. The chosen one must be valid, finished and free of broken rules."""
        self.preference, self.why_not = agreed_preference(self.texts, self.verdicts, margin_min)
        if self.preference is None:
            return
        problem = self.candidates[self.texts.index(self.preference.chosen)].problem
        if problem is not None:
            broken = problem.startswith("rule:")
            self.preference, self.why_not = None, "chosen_breaks_rule" if broken else "chosen_not_whole"
            self.detail = problem

    def raw(self) -> str:
        """Prompt, candidates and verdicts as JSON, cut to a bounded length."""
        most = _RAW_CHARACTERS // (1 + len(self.candidates) + len(self.replies))
        verdicts = [
            {"judge": judge, "order": [i + 1 for i in order], "text": text[:most]}
            for judge, (order, _), text in zip(self.judges, self.verdicts, self.replies, strict=True)
        ]
        shown = {"prompt": self.row["prompt"][:most], "candidates": [text[:most] for text in self.texts]}
        return json.dumps({**shown, "verdicts": verdicts}, ensure_ascii=False)


def preference_pairs(run: StageRun[PreferencePairs]) -> dict[str, Any]:
    """Best and worst candidate of each prompt, asked in two orders, and in more while those disagree and the recipe
    allows; a prompt that stays without agreement gives no pair and is in the quarantine."""
    groups = _groups(run)
    rounds = _judge_in_rounds(run, groups)
    _reject_explained_by_length(groups, run.section.length_share_max)
    run.write(_pairs(groups))
    abstained = _abstained(groups)
    run.quarantine(abstained, pl.col("reason"), pl.col("detail"), pl.col("raw"))
    return {
        "asked": len(groups),
        "abstentions": dict(abstained["reason"].value_counts(sort=True).iter_rows()),
        **_of_the_judges(groups),
        "asked_again": sum(len(group.verdicts) > 2 * len({*group.judges}) for group in groups),
        **sum(rounds[1:], start=rounds[0]).metadata(),
    }


def _judge_in_rounds(run: StageRun[PreferencePairs], groups: list[_Group]) -> list[TeacherUse]:
    """Two orders of all groups, then two more of those on which the verdicts disagree; what each round took."""
    section = run.section
    rounds: list[TeacherUse] = []
    pending = [group for group in groups if group.why_not is None]
    for asked in range(0, section.orders_max, 2):
        rounds.append(_judge(run, pending, asked, min(asked + 2, section.orders_max)))
        pending = [group for group in pending if group.why_not in _DISPUTED and group.refused is None]
        if not pending:
            break
    return rounds


def _reject_explained_by_length(groups: list[_Group], length_share_max: float) -> None:
    """Take back preferences that a judge who reads nothing but the length could have given."""
    decided = [(group, group.preference) for group in groups if group.preference is not None]
    by_length = explained_by_length([(group.texts, preference) for group, preference in decided], length_share_max)
    for (group, _), explained in zip(decided, by_length, strict=True):
        if explained:
            group.preference, group.why_not = None, "explained_by_length"


def _pairs(groups: list[_Group]) -> pl.DataFrame:
    """A row of `PAIRS` for each group with a preference."""
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
    return pl.DataFrame(pairs, schema=PAIRS)


def _abstained(groups: list[_Group]) -> pl.DataFrame:
    """(row_id, reason, detail, raw, refused) of each group without a preference."""
    rows = [
        {
            "row_id": group.row["row_id"],
            "reason": group.why_not,
            "detail": group.detail,
            "raw": group.raw(),
            "refused": group.refused,
        }
        for group in groups
        if group.preference is None
    ]
    names = ("row_id", "reason", "detail", "raw", "refused")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))
    return frame.with_columns(reason=problem_or_refusal(pl.col("reason")), detail=pl.coalesce("refused", "detail"))


def _groups(run: StageRun[PreferencePairs]) -> list[_Group]:
    """The prompts to be judged with those candidates that a judge is shown. Cut-off answers are left out: a judge cannot
    tell what they would have become."""
    section = run.section
    junior = keeping_rules(run.input("junior_data").table(), section.rules, run.recipe.seed)
    keys = TASK_TYPES[run.task_type].keys
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in junior.iter_rows(named=True):
        groups.setdefault(row["row_id"], []).append(row)
    found = []
    for rows in list(groups.values())[: getattr(section.prompts, run.task_type)]:
        finished = [row for row in rows if row["problem"] != CUT_OFF]
        shown: dict[str, _Candidate] = {}
        for row in finished:
            complete = len(TASK_TYPES[run.task_type].record(row)) == len(keys)
            text = canonical_record(run.task_type, row) if complete else row["output"] or ""
            shown.setdefault(text, _Candidate(text, row["problem"]))
        group = _Group(rows[0], list(shown.values()))
        if len(shown) < 2:
            group.why_not = "same_text" if len(finished) > 1 else "too_few_candidates"
            group.detail = f"{len(finished)} of {len(rows)} candidates are finished, {len(shown)} of them different"
        found.append(group)
    return found


def _of_the_judges(groups: list[_Group]) -> dict[str, Any]:
    """How reliable each judge is: contradictions, unreadable verdicts, biases of order and length.

    `contradictions` has, by judge, the prompts whose first two verdicts could be read, and those among them in which a
    candidate is best in one order and worst in the other.
    """
    by_judge: dict[str, list[tuple[list[str], Order, Verdict | str]]] = {}
    against: dict[str, list[bool | None]] = {}
    for group in groups:
        of_group: dict[str, list[tuple[Order, Verdict | str]]] = {}
        for judge, verdict in zip(group.judges, group.verdicts, strict=True):
            of_group.setdefault(judge, []).append(verdict)
            by_judge.setdefault(judge, []).append((group.texts, *verdict))
        for judge, verdicts in of_group.items():
            against.setdefault(judge, []).append(judge_contradicts_itself(group.texts, verdicts[:2]))
    problems = Counter(
        verdict for verdicts in by_judge.values() for *_, verdict in verdicts if isinstance(verdict, str)
    )
    unread = {judge: [isinstance(verdict, str) for *_, verdict in verdicts] for judge, verdicts in by_judge.items()}
    return {
        "contradictions": {
            judge: {"prompts": sum(one is not None for one in found), "contradicted": sum(one is True for one in found)}
            for judge, found in against.items()
        },
        "unreadable": {judge: {"verdicts": len(found), "unreadable": sum(found)} for judge, found in unread.items()},
        "verdict_problems": dict(problems.most_common()),
        "judge_leanings": {judge: judge_biases(verdicts) for judge, verdicts in by_judge.items()},
    }


def _judge(run: StageRun[PreferencePairs], groups: list[_Group], first: int, last: int) -> TeacherUse:
    """Ask for verdicts on the candidates of each group in its orders from `first` to `last`."""
    section, prompts = run.section, run.prompts
    uses = [run.ask([], section.sampling, limits=[])[1]]
    # The schema names the largest number that a verdict may have.
    for count in sorted({len(group.candidates) for group in groups}):
        shown = [
            (group, order)
            for group in groups
            if len(group.candidates) == count
            for order in presentation_orders(count, section.orders_max)[first:last]
        ]
        texts = [
            prompts.judge(
                run.task_type, group.row["task"], candidates_in_order(group.texts, order), group.row["prompt"]
            )
            for group, order in shown
        ]
        schema = schema_for("judge", run.task_type, count)
        limits = run.limits(section.sampling, [run.most_words("judge")] * len(texts))
        for judge in (run.recipe.teacher.model, *section.panel):
            model = None if judge == run.recipe.teacher.model else judge
            answers, use = run.ask(texts, section.sampling, schema, model=model, limits=limits)
            uses.append(use)
            for (group, order), answer in zip(shown, answers, strict=True):
                group.verdicts.append((order, parse_verdict(answer.text, len(order), answer.finished)))
                group.judges.append(judge)
                group.replies.append(answer.text)
                group.refused = group.refused or answer.error
    for group in groups:
        group.read(section.margin_min)
    return sum(uses[1:], start=uses[0])


def senior_model(run: StageRun[PreferenceTraining]) -> dict[str, Any]:
    """DPO from the junior, with the frozen junior as reference.

    Raises:
        RecipeError: there are fewer pairs than `checks.pairs_min`, of all task types together. A check of this stage
            asks the same of what was trained; asked here, no training is wasted.
    """
    rows = run.input_rows("preference_pairs").select("prompt", "chosen", "rejected")
    least = run.unfingerprinted.checks.pairs_min
    if rows.height < least:
        raise RecipeError(too_few_pairs(rows.height, least))
    tokens = run.most_answer_tokens("synthesis")
    start = run.input("junior_model")
    report = train(run, "dpo", rows, run.section, start=start, answer_tokens=tokens)
    return report | {"pairs": rows.height}


def too_few_pairs(pairs: int, least: int) -> str:
    """The error of too few preference pairs, with what to do."""
    return (
        f"{pairs} preference pairs came out over all task types, at least {least} must (checks.pairs_min): see why with "
        "`speed quarantine --stage preference_pairs`, then judge more prompts (preference_pairs.prompts), accept less "
        "agreement (preference_pairs.margin_min), sample more varied candidates (junior_data.sampling), or leave out DPO "
        "(senior_data.writer: junior_model)"
    )


def senior_data(run: StageRun[SeniorData]) -> dict[str, Any]:
    """One output of the model that writes at scale, for each row asked for."""
    section = run.section
    writer = next(name for name in run.stage.inputs if name in get_args(Writer))
    return write_with(run, writer, section.rows, 1, section.sampling, section.attempts)
