"""Preference pairs and revisions with a teacher that answers as a test says: what is shown, chosen, counted and rejected."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.store.store import Store
from resources.teacher.teacher import Teacher
from speed_assets.assets.revisor import revision_data
from speed_assets.assets.senior import preference_pairs, senior_model
from speed_assets.assets.stage_run import StageRun
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.rows import parse_outputs
from speed_assets.recipe import RecipeError
from tests.support.scripted import Scripted, full_recipe

WHOLE = [
    {
        "input": f"the {name} of a violin",
        "positive_document": f"What a player calls the {name} holds {what} in its place.",
    }
    for name, what in (
        ("neck", "four strings"),
        ("bridge", "the sound"),
        ("peg", "its string"),
        ("chin rest", "the head"),
    )
]


def record(number: int, **changes: str) -> str:
    return json.dumps(WHOLE[number] | changes)


def stage_run(
    folder: Path, name: str, junior: dict[str, list[Any]], teacher: Scripted, **changes: Any
) -> StageRun[Any]:
    """`junior` holds the outputs to each prompt; a pair (text, finished) says that it was cut."""
    recipe = full_recipe(folder, **changes)
    rows = []
    for row_id, outputs in junior.items():
        for candidate, output in enumerate(outputs):
            text, finished = output if isinstance(output, tuple) else (output, True)
            rows.append((row_id, candidate, text, finished))
    frame = pl.DataFrame(rows, schema=["row_id", "candidate", "output", "finished"], orient="row")
    frame = frame.with_columns(
        task_id=pl.col("row_id"),
        task_type=pl.lit("matching_short"),
        topic=pl.lit("Arts/Music/Violins"),
        task=pl.lit("Match the name of a part with what it does."),
        prompt=pl.concat_str(pl.lit("the prompt of "), "row_id"),
    )
    table = parse_outputs(frame, "matching_short").drop("finished", "read_as")
    (stage,) = (stage for stage in ALL_STAGES if stage.name == name)
    (folder / "out").mkdir(exist_ok=True)
    return StageRun.of(
        recipe,
        stage,
        "matching_short",
        inputs={"junior_data": {"matching_short": cast(Any, SimpleNamespace(table=lambda: table))}},
        out=folder / "out",
        store=Store(folder / "home").open(),
        runner=cast(Any, None),
        teacher=Teacher(recipe, Ledger.at(folder / "home"), teacher),
        context=CallContext("run", name, "matching_short"),
        progress=lambda *_: None,
    )


def likes(best: str, worst: str) -> Any:
    """A judge of content, wherever a candidate stands."""

    def answer(request: TeacherRequest) -> str:
        shown = request.prompt.partition("</prompt>")[2].split("</candidate>")[:-1]
        place = {text: next(i for i, c in enumerate(shown, 1) if text in c) for text in (best, worst)}
        return json.dumps({"reason": "r", "best": place[best], "worst": place[worst]})

    return answer


def test_pairs_are_taught_in_one_form_and_cut_answers_are_not_shown(tmp_path: Path) -> None:
    fenced = f"Here you are: ```json\n{record(0)}\n```"
    teacher = Scripted(likes("neck", "bridge"))
    junior = {"a": [fenced, record(1), (record(2), False), "no record, but finished"]}
    run = stage_run(tmp_path, "preference_pairs", junior, teacher)
    metadata = preference_pairs(run)
    (pair,) = run.tables["data"].iter_rows(named=True)
    assert (pair["chosen"], pair["rejected"], pair["margin"]) == (record(0), record(1), 1.0)
    assert len(teacher.asked) == 2
    for request in teacher.asked:
        assert "the prompt of a" in request.prompt
        assert "peg" not in request.prompt
        assert request.prompt.count("</candidate>") == 3
        assert request.schema is not None
        assert request.schema["properties"]["best"]["maximum"] == 3
    assert metadata["contradictions"] == {"m": {"prompts": 1, "contradicted": 0}}
    assert metadata["unreadable"] == {"m": {"verdicts": 2, "unreadable": 0}}


@pytest.mark.parametrize(
    ("outputs", "best", "worst", "rules", "reason"),
    [
        ([record(0), (record(1), False)], "neck", "bridge", None, "too_few_candidates"),
        ([record(0), f" {record(0)} "], "neck", "neck", None, "same_text"),
        (['{"input": "the neck"}', record(1)], "neck", "bridge", None, "chosen_not_whole"),
        (
            [record(0, input="As an AI language model I name the neck."), record(1)],
            "neck",
            "bridge",
            {},
            "chosen_breaks_rule",
        ),
    ],
)
def test_what_may_not_be_chosen_makes_no_pair(
    tmp_path: Path, outputs: list[Any], best: str, worst: str, rules: Any, reason: str
) -> None:
    teacher = Scripted(likes(best, worst))
    changes = {"preference_pairs__rules": rules} if rules is not None else {}
    run = stage_run(tmp_path, "preference_pairs", {"a": outputs}, teacher, **changes)
    metadata = preference_pairs(run)
    assert run.tables["data"].is_empty()
    assert run.tables["quarantine"]["reason"].to_list() == [reason]
    assert metadata["abstentions"] == {reason: 1}
    assert bool(teacher.asked) == reason.startswith("chosen")


def test_the_quarantine_keeps_what_the_judge_said(tmp_path: Path) -> None:
    def answer(request: TeacherRequest) -> TeacherAnswer | str:
        if "prompt of a" in request.prompt:
            return '{"reason": "the first", "best": 1, "worst": 2}'
        return TeacherAnswer('{"reason": "I would say that the be', finished=False)

    long = {"b": [record(0, positive_document="long " * 5000), record(1)]}
    run = stage_run(tmp_path, "preference_pairs", {"a": [record(0), record(1)], **long}, Scripted(answer))
    metadata = preference_pairs(run)
    aside = {row["row_id"]: row for row in run.tables["quarantine"].iter_rows(named=True)}
    assert {row_id: row["reason"] for row_id, row in aside.items()} == {
        "a": "orders_disagree",
        "b": "unreadable_verdict",
    }
    kept = json.loads(aside["a"]["raw"])
    assert kept["candidates"] == [record(0), record(1)]
    assert [(verdict["order"], json.loads(verdict["text"])["best"]) for verdict in kept["verdicts"]] == [
        ([1, 2], 1),
        ([2, 1], 1),
    ]
    assert "I would say" in json.loads(aside["b"]["raw"])["verdicts"][0]["text"], "cut, and JSON all the same"
    assert metadata["contradictions"] == {"m": {"prompts": 1, "contradicted": 1}}
    assert metadata["unreadable"] == {"m": {"verdicts": 4, "unreadable": 2}}
    assert metadata["verdict_problems"] == {"cut_off": 2}


def test_too_few_pairs_are_reported_before_a_training_is_paid_for(tmp_path: Path) -> None:
    run = stage_run(tmp_path, "senior_model", {"a": [record(0)]}, Scripted(lambda _: ""), checks__pairs_min=3)
    pairs = pl.DataFrame({"prompt": ["p"], "chosen": ["a"], "rejected": ["b"]})
    run.inputs = {
        "preference_pairs": {name: cast(Any, SimpleNamespace(table=lambda: pairs)) for name in ("sts", "retrieval")}
    }
    with pytest.raises(RecipeError, match=r"2 preference pairs came out over all task types, at least 3 .*pairs_min"):
        senior_model(run)


def test_what_cannot_be_read_as_a_revision_teaches_nothing(tmp_path: Path) -> None:
    said = {
        "a": '{"reason": "fine", "revision": null}',
        "b": '```json\n{"reason": "wrong", "revision": {"input": "the scroll"}}\n```',
        "c": '{"reason": "wrong", "input": "the scroll"}',
        "d": '{"verdict": "good"}',
        "e": '{"reason": "<what is wrong, or that nothing is>", "revision": null}',
        "f": TeacherAnswer('{"reason": "wrong", "revision": {"input": "the scr', finished=False),
    }
    teacher = Scripted(lambda request: said[request.prompt.partition("the prompt of ")[2][0]])
    run = stage_run(tmp_path, "revision_data", {row_id: [record(0)] for row_id in said}, teacher)
    metadata = revision_data(run)
    taught = dict(run.tables["data"].select("row_id", "output").iter_rows())
    assert taught == {
        "a": '{"reason": "fine", "revision": null}',
        "b": '{"reason": "wrong", "revision": {"input": "the scroll"}}',
        "c": '{"reason": "wrong", "revision": {"input": "the scroll"}}',
    }
    aside = run.tables["quarantine"]
    assert dict(aside.select("row_id", "reason").iter_rows()) == {
        "d": "missing_key:revision",
        "e": "template_echo",
        "f": "cut_off",
    }
    assert aside.filter(pl.col("row_id") == "d")["raw"].to_list() == [said["d"]]
    assert metadata["mended"] == 2
