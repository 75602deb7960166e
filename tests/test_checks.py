"""The checks: each passes on a good artifact, and fails on a planted fault with the faulty rows shown."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from checks.asset_checks import results_of, specs_of
from checks.check import CELL, EXAMPLES
from checks.gates import refusals
from checks.registry import CHECKS, Outcome, Subject, check_key, checks_of, evaluate
from checks.suites import SUITES, validate
from resources.inputs.evaluation_sets import offline_evaluation_texts
from resources.releases.releases import next_number, promote_new_release, roll_back
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.asset_keys import key_of, step_of
from resources.store.store import Artifact, Store
from speed_assets.build import build_defs
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.domain.rows import QUARANTINE_SCHEMA
from speed_assets.domain.task_types import TASK_TYPE_NAMES, TASK_TYPES
from speed_assets.recipe import Recipe

PARTITIONED = {stage.name for stage in ALL_STAGES if stage.partitioned}
ROWS = 10
SAMPLES = 40
"""Samples of each score."""


def recipe_with(source: str = "revised_data", **checks: Any) -> Recipe:
    each = dict.fromkeys(TASK_TYPE_NAMES, ROWS)
    sampling = {"temperature": 1.0, "max_new_tokens": 8}
    training = {"learning_rate": 0.1, "batch_size": 2, "epochs": 1, "max_length": 64}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "description": "for tests",
            "seed": 1,
            "topics": {"file": "topics.txt"},
            "prompts": {"set": "compact"},
            "teacher": {"engine": "microworld", "model": "microworld"},
            "generator": {"engine": "transformers", "base": "microworld", "dtype": "float32", "batch_rows": 8},
            "task_list": {"sampling": sampling},
            "seed_data": {"rows": each, "sampling": sampling},
            "junior_model": training,
            "junior_data": {"prompts": dict.fromkeys(each, ROWS // 2), "candidates": 2, "sampling": sampling},
            "preference_pairs": {"prompts": dict.fromkeys(each, ROWS // 2), "sampling": sampling},
            "senior_model": {**training, "beta": 0.1, "nll_weight": 0.1},
            "senior_data": {"rows": each, "sampling": sampling},
            "revision_data": {"rows": dict.fromkeys(each, ROWS // 2), "sampling": sampling},
            "revisor_model": {**training, "mended_share": 0.5},
            "revised_data": {"sampling": sampling},
            "final_triplets": {"source": source},
            "embedding_model": {**training, "base": "static", "dimensions": 4, "temperature": 0.05},
            "evaluation": {"microworld": {"topics": 8, "rows": 50}},
            "mteb_scores": {"baselines": ["seed_data"]},
            "checks": {"pairs_min": 3, "loss_drop_min": 0.1, **checks},
        }
    )


RECIPE = recipe_with()


# Good artifacts, one for each asset


def written(task_type: str, rows: int = ROWS) -> pl.DataFrame:
    """Rows of seed_data."""
    number = pl.int_range(rows).cast(pl.String)
    negative = pl.concat_str(pl.lit("negative "), number) if TASK_TYPES[task_type].has_negative else pl.lit(None)
    return pl.select(
        row_id=pl.concat_str(pl.lit(f"{task_type}-row"), number),
        task_id=pl.concat_str(pl.lit("task"), number),
        task_type=pl.lit(task_type),
        topic=pl.lit("violins"),
        task=pl.lit("cost of violins"),
        prompt=pl.lit("write"),
        output=pl.lit("{}"),
        query=pl.concat_str(pl.lit("query "), number),
        positive=pl.concat_str(pl.lit("positive "), number),
        negative=negative.cast(pl.String),
    )


def generated(task_type: str) -> pl.DataFrame:
    """Rows of senior_data, the last one of them not whole."""
    whole = pl.int_range(ROWS) < ROWS - 1
    return written(task_type).with_columns(
        positive=pl.when(whole).then("positive"),
        candidate=pl.lit(0, pl.Int64),
        prompt_tokens=pl.lit(3, pl.Int64),
        output_tokens=pl.lit(5, pl.Int64),
        valid=whole,
        problem=pl.when(~whole).then(pl.lit("missing_key:positive_document")),
    )


def good_table(asset: str, task_type: str | None) -> pl.DataFrame:
    kind = task_type or "retrieval"
    number = pl.int_range(ROWS).cast(pl.String)
    base = written(kind)
    if asset in ("topics", "topic_tree"):
        return pl.select(
            topic_id=pl.concat_str(pl.lit("topic"), number),
            path=pl.lit("Arts/Violins"),
            topic=pl.lit("violins"),
            line=pl.int_range(1, ROWS + 1),
            synthesis=pl.lit(True),
            alignment=pl.lit(False),
        )
    if asset == "task_list":
        return base.select(
            "task_id",
            pl.col("task_id").alias("topic_id"),
            "topic",
            "task_type",
            "task",
            synthesis=pl.lit(True),
            alignment=pl.lit(False),
        )
    if asset == "junior_data":
        row_id = pl.concat_str(pl.lit(f"{kind}-row"), (pl.int_range(ROWS) // 2).cast(pl.String))
        return generated(kind).with_columns(row_id=row_id, candidate=pl.int_range(ROWS) % 2)
    if asset == "senior_data":
        return generated(kind)
    if asset == "preference_pairs":
        return base.head(4).select(
            "row_id",
            "task_type",
            "prompt",
            chosen=pl.lit("good"),
            rejected=pl.lit("bad"),
            margin=pl.lit(1.0),
            verdicts=pl.lit(2, pl.Int64),
            judge_model=pl.lit("microworld"),
        )
    if asset == "revision_data":
        return base.head(5).select("row_id", "task_type", "prompt", "output", mended=pl.int_range(5) % 2 == 0)
    if asset == "revised_data":
        return base.with_columns(
            valid=pl.lit(True),
            changed=pl.lit(False),
            before=pl.lit("{}"),
            reason=pl.lit(None, pl.String),
            doubt=pl.lit(None, pl.String),
        )
    if asset == "row_scores":
        return base.select(
            "row_id",
            "task_type",
            least_likely=pl.lit(-2.0),
            swapped=pl.lit(-9.0),
            role=pl.lit(0.9),
            margin=pl.lit(None, pl.Float64),
            positive_similarity=pl.lit(0.8),
            negative_similarity=pl.lit(0.4),
            evaluation_similarity=pl.lit(None, pl.Float64),
            evaluation=pl.lit(None, pl.String),
        )
    if asset == "row_verdicts":
        return base.select(
            "row_id",
            "task_type",
            place=pl.int_range(ROWS),
            weight=pl.lit(2.5),
            faulty=pl.int_range(ROWS) % 2 == 0,
            reason=pl.lit(None, pl.String),
        )
    if asset == "mined_negatives":
        return base.select(
            "row_id",
            "task_type",
            negative=pl.lit("another"),
            positive_similarity=pl.lit(0.8),
            negative_similarity=pl.lit(0.6),
            verdict=pl.lit("margin"),
        )
    if asset == "final_triplets":
        rows = pl.concat([written(name, 2) for name in TASK_TYPE_NAMES])
        return rows.select("row_id", "task_type", "topic", "task", "query", "positive", "negative")
    if asset == "quarantine":
        return base.select(
            "row_id",
            "task_type",
            stage=pl.lit("seed_data"),
            reason=pl.lit("not_json"),
            detail=pl.lit(None, pl.String),
            raw=pl.lit(""),
        ).select(*QUARANTINE_SCHEMA)
    if asset == "mteb_scores":
        scores = {"embedding_model": 0.7, "untrained": 0.4, "seed_data only": 0.6, "bm25": 0.5}
        return pl.DataFrame(
            [
                {
                    "model": model,
                    "task": task,
                    "type": task,
                    "metric": "main",
                    "score": score,
                    "samples": SAMPLES,
                    **dict.fromkeys(("model_digest", "dataset_revision", "mteb"), "1"),
                    **dict.fromkeys(("sentence_transformers", "transformers", "dtype", "instruction"), "1"),
                }
                for model, score in scores.items()
                for task in ("Retrieval", "STS")
            ]
        )
    return base


def good_samples(scores: pl.DataFrame) -> pl.DataFrame:
    """Samples with these means, as hard for every model."""
    spread = np.linspace(-0.1, 0.1, SAMPLES)
    rows = [
        {"model": row["model"], "task": row["task"], "part": "test/default", "statistic": "mean", "sample": str(number)}
        | {"score": row["score"] + hard * (1 + 0.1 * len(row["model"])), "predicted": None, "gold": None}
        for row in scores.iter_rows(named=True)
        for number, hard in enumerate(spread)
    ]
    numbers = dict.fromkeys(("score", "predicted", "gold"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=numbers, infer_schema_length=None)


DIVERSITY: dict[str, Any] = {
    "topics": {"asked": 40, "covered": 39, "share": 0.975, "missing": ["lutes"]},
    "task_types": {"kept": {"sts": 1.0}, "intended": {"sts": 0.95, "retrieval": 0.05}, "distance": 0.05},
    "vendi": {"rows": 100, "score": 25.0, "per_row": 0.25},
}
EVALUATION = offline_evaluation_texts(RECIPE.evaluation)
METADATA: dict[str, dict[str, Any]] = {
    "evaluation_texts": {"texts_of": {"STSBenchmark": 3}},
    "topics": {"asked": ROWS},
    "task_list": {"asked": ROWS, "parts": {"synthesis": "s", "alignment": "a"}},
    "topic_tree": {"asked": ROWS},
    "preference_pairs": {
        "asked": 4,
        "contradictions": {"judge": {"prompts": 4, "contradicted": 1}},
        "unreadable": {"judge": {"verdicts": 10, "unreadable": 1}},
        "verdict_problems": {"not_json": 1},
    },
    "senior_model": {"pairs": 3},
    "revision_data": {"asked": 5},
    "revised_data": {
        "asked": ROWS,
        "revisions": 20,
        "revisions_unreadable": 1,
        "revision_problems": {"missing_key:revision": 1},
    },
    "row_scores": {"asked": ROWS},
    "row_verdicts": {"asked": ROWS},
    "mined_negatives": {"asked": ROWS},
    "quarantine": {"asked": ROWS},
    "final_triplets": {
        "rows_in": 2 * len(TASK_TYPE_NAMES),
        "diversity": DIVERSITY,
        "contamination": [{"task": task, "texts": len(texts), "removed": 0} for task, texts in EVALUATION.items()],
    },
}
MODELS = ("junior_model", "senior_model", "revisor_model", "embedding_model", "baseline_models", "embedding_reruns")


def losses(*values: float) -> str:
    return "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(values, 1))


class Shelf(Artifacts):
    """Artifacts put there by hand, in a real store: found by asset and partition, whatever their fingerprint."""

    def __init__(self, home: Path, recipe: Recipe = RECIPE) -> None:
        super().__init__(recipe, Store(home).open())
        self.artifacts: dict[tuple[str, str | None], Artifact] = {}
        self.made = 0

    def table(
        self, asset: str, data: pl.DataFrame, quarantine: int = 0, partition: str | None = None, **metadata: Any
    ) -> Artifact:
        with self.store.building(digest([asset, partition, self.made])) as work:
            data.write_parquet(work / "data.parquet")
            if asset == "mteb_scores":
                good_samples(data).write_parquet(work / "samples.parquet")
            aside = pl.DataFrame({"row_id": [f"q{i}" for i in range(quarantine)], "reason": ["not_json"] * quarantine})
            aside.with_columns(raw=pl.lit("x" * 999)).write_parquet(work / "quarantine.parquet")
            return self._complete(asset, partition, work, {**METADATA.get(asset, {}), **metadata})

    def model(
        self,
        asset: str,
        curve: str = losses(*[2.0] * 5, *[1.0] * 5),
        metadata: dict[str, Any] | None = None,
        judged: str | None = None,
        **files: bytes,
    ) -> Artifact:
        with self.store.building(digest([asset, None, self.made])) as work:
            (work / "model").mkdir()
            (work / "aside").mkdir()
            save_file({"weight": np.zeros((2, 3), np.float32)}, work / "model" / "model.safetensors")
            (work / "aside" / "losses.jsonl").write_text(curve)
            if judged:
                (work / "aside" / "judged.json").write_text(judged)
            for name, content in files.items():
                (work / "model" / name.replace("__", ".")).write_bytes(content)
            return self._complete(asset, None, work, METADATA.get(asset, {}) | (metadata or {}))

    def release(self, scores: Artifact) -> Artifact:
        """A release of these scores, in use from now on."""
        fingerprint = digest(["release", scores.digest])
        with self.store.building(fingerprint) as work:
            for name in ("data", "samples"):
                shutil.copy(scores.path / f"{name}.parquet", work / f"{'scores' if name == 'data' else name}.parquet")
            made = self.store.seal(
                "release",
                fingerprint,
                work,
                partition=None,
                metadata={"number": next_number(self.store)},
                lineage={"recipe": {"name": self.recipe.name}, "inputs": {"mteb_scores": scores.digest}},
            )
        promote_new_release(self.store, made.fingerprint)
        return made

    def good(self, asset: str, partition: str | None = None) -> Artifact:
        return self.model(asset) if asset in MODELS else self.table(asset, good_table(asset, partition), 0, partition)

    def _complete(self, asset: str, partition: str | None, work: Path, metadata: dict[str, Any]) -> Artifact:
        fingerprint = digest([asset, partition, self.made])
        self.made += 1
        artifact = self.store.seal(
            asset, fingerprint, work, partition=partition, metadata=metadata, lineage={"inputs": {}}
        )
        self.artifacts[asset, partition] = artifact
        return artifact

    def fetch(self, asset: str, partition: str | None = None) -> Artifact | None:
        return self.artifacts.get((asset, partition))

    def ask(self, artifact: Artifact, check: str, recipe: Recipe | None = None) -> Outcome:
        found = next(c for c in checks_of(artifact.asset) if c.name == check)
        outcome = evaluate(found, Subject(artifact, recipe or self.recipe, artifact.partition, self.store))
        json.dumps(outcome.metadata, allow_nan=False)
        return outcome


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "home")


def partition_of(asset: str, task_type: str = "retrieval") -> str | None:
    return task_type if asset in PARTITIONED else None


# Every check on a good artifact


def test_every_asset_is_checked_by_names_that_are_its_own() -> None:
    assert {check.asset for check in CHECKS} == {stage.name for stage in ALL_STAGES} - {"release"}
    assert len({(check.asset, check.name) for check in CHECKS}) == len(CHECKS)
    assert all(any(check.blocking for check in checks_of(check.asset)) for check in CHECKS)


@pytest.mark.parametrize("asset", sorted({check.asset for check in CHECKS}))
def test_good_artifacts_pass(shelf: Shelf, asset: str) -> None:
    for task_type in ("retrieval", "matching_short") if asset in PARTITIONED else (None,):
        artifact = shelf.good(asset, task_type)
        for check in checks_of(asset):
            outcome = shelf.ask(artifact, check.name)
            assert outcome.passed, f"{artifact_label(asset, task_type)} {check.name}: {outcome.reason}"


@pytest.mark.parametrize("counts", [{}, {"STSBenchmark": 3, "NFCorpus": 0}])
def test_an_evaluation_task_of_which_nothing_was_read_is_found(shelf: Shelf, counts: dict[str, int]) -> None:
    texts = shelf.table("evaluation_texts", pl.DataFrame({"task": ["a"], "text": ["b"]}), texts_of=counts)
    outcome = shelf.ask(texts, "every_task")
    assert not outcome.passed
    assert "evaluation.unsearched" in outcome.reason


@pytest.mark.parametrize("asset", sorted(SUITES))
def test_an_empty_table_is_no_crash(asset: str) -> None:
    outcome = validate(asset, good_table(asset, partition_of(asset)).clear(), partition_of(asset))
    assert outcome.passed == (asset not in ("topics", "topic_tree", "mteb_scores")), outcome.reason


# Expectations on rows


PLANTED = [2, 5]


def put(column: str, value: Any) -> pl.Expr:
    """The planted rows get another value."""
    value = value if isinstance(value, pl.Expr) else pl.lit(value)
    return pl.when(pl.int_range(pl.len()).is_in(PLANTED)).then(value).otherwise(pl.col(column)).alias(column)


FAULTS = [
    ("topics", put("topic", " \n"), "column_values_to_match_regex(topic)"),
    ("topics", put("topic_id", "same"), "column_values_to_be_unique(topic_id)"),
    ("task_list", put("task_type", "sts"), "column_values_to_be_in_set(task_type)"),
    ("seed_data", put("row_id", "same"), "column_values_to_be_unique(row_id)"),
    ("seed_data", put("row_id", ""), "column_value_lengths_to_be_between(row_id)"),
    ("seed_data", put("query", None), "column_values_to_not_be_null(query)"),
    ("seed_data", put("positive", pl.col("query")), "column_values_to_be_null(query where query == positive)"),
    ("seed_data", put("negative", None), "column_values_to_not_be_null(negative"),
    ("junior_data", put("candidate", 0), "compound_columns_to_be_unique(row_id, candidate)"),
    ("junior_data", put("query", None), "column_values_to_not_be_null(query where valid == True)"),
    ("preference_pairs", put("rejected", pl.col("chosen")), "where chosen == rejected)"),
    ("preference_pairs", put("margin", 1.5), "column_values_to_be_between(margin)"),
    ("senior_data", put("row_id", "same"), "column_values_to_be_unique(row_id)"),
    ("senior_data", put("valid", False), "column_values_to_not_be_null(problem where valid == False)"),
    ("revision_data", put("output", " "), "column_values_to_match_regex(output)"),
    ("revised_data", put("before", None), "column_values_to_not_be_null(before)"),
    ("row_scores", put("least_likely", 0.5), "column_values_to_be_between(least_likely)"),
    ("row_scores", put("margin", -1.5), "column_values_to_be_between(margin)"),
    ("row_verdicts", put("weight", 0.5), "column_values_to_be_between(weight)"),
    ("row_verdicts", put("place", 1), "column_values_to_be_unique(place)"),
    ("row_verdicts", put("faulty", None), "column_values_to_not_be_null(faulty)"),
    ("final_triplets", put("task_type", "haiku"), "column_values_to_be_in_set(task_type)"),
    ("final_triplets", put("positive", pl.col("query")), "where query == positive)"),
    ("quarantine", put("reason", None), "column_values_to_not_be_null(reason)"),
    ("quarantine", put("task_type", "haiku"), "column_values_to_be_in_set(task_type)"),
    ("mteb_scores", put("score", 1.5), "column_values_to_be_between(score"),
    ("mteb_scores", put("score", float("nan")), "column_values_to_not_be_null(score)"),
]


@pytest.mark.parametrize(("asset", "fault", "named"), FAULTS, ids=[f"{a}-{n}" for a, _, n in FAULTS])
def test_a_planted_fault_is_named_with_its_rows(asset: str, fault: pl.Expr, named: str) -> None:
    partition = partition_of(asset)
    frame = good_table(asset, partition).with_columns(fault)
    outcome = validate(asset, frame, partition)
    assert not outcome.passed
    assert named in outcome.reason
    key = "row_id" if "row_id" in frame.columns else frame.columns[0]
    shown = {row[key] for row in outcome.metadata["failing_rows"]}
    assert shown & set(frame[[row for row in PLANTED if row < frame.height]][key])
    failed = [e for e in outcome.metadata["expectations"] if not e["success"]]
    assert failed[0]["unexpected_count"] >= 1
    json.dumps(outcome.metadata, allow_nan=False)


def test_a_matching_row_has_no_negative() -> None:
    frame = good_table("seed_data", "matching_long").with_columns(put("negative", "too much"))
    assert "column_values_to_be_null(negative" in validate("seed_data", frame, "matching_long").reason


def test_columns_in_another_order_or_missing_are_a_fault() -> None:
    frame = good_table("topics", None)
    turned = validate("topics", frame.select(reversed(frame.columns)), None)
    assert not turned.passed
    assert "table_columns_to_match_ordered_list" in turned.reason
    missing = validate("topics", frame.drop("path"), None)
    assert not missing.passed
    assert "path" in missing.reason


def test_examples_are_few_and_short() -> None:
    frame = good_table("seed_data", "sts").with_columns(row_id=pl.lit("same"), output=pl.lit("<b>" * 500))
    rows = validate("seed_data", frame, "sts").metadata["failing_rows"]
    assert len(rows) == EXAMPLES
    assert max(len(str(cell)) for row in rows for cell in row.values()) == CELL


def test_a_negative_that_is_its_query_only_warns(shelf: Shelf) -> None:
    frame = good_table("final_triplets", None).with_columns(
        negative=pl.when(pl.col("negative").is_not_null()).then("query")
    )
    artifact = shelf.table("final_triplets", frame)
    assert shelf.ask(artifact, "expectations").passed
    outcome = shelf.ask(artifact, "plausible")
    assert not outcome.passed
    assert outcome.metadata["failing_rows"][0]["negative"] == "query 0"
    assert [check.blocking for check in checks_of("final_triplets") if check.name == "plausible"] == [False]


def test_a_correlation_may_be_negative_and_no_other_score() -> None:
    frame = good_table("mteb_scores", None)
    below = pl.when(pl.col("type") == "STS").then(-0.01).otherwise("score").alias("score")
    assert validate("mteb_scores", frame.with_columns(below), None).passed
    assert not validate("mteb_scores", frame.with_columns(score=pl.lit(-0.01)), None).passed


# Shares and counts


def good_with(asset: str, **metadata: Any) -> Any:
    return lambda shelf: shelf.table(asset, good_table(asset, partition_of(asset)), 0, partition_of(asset), **metadata)


def cut(asset: str, rows: int, quarantine: int = 0, **metadata: Any) -> Any:
    part = partition_of(asset)
    return lambda shelf: shelf.table(asset, good_table(asset, part).head(rows), quarantine, part, **metadata)


SHARES = [
    (cut("topics", 7, 3), "refused_share", r"3 of 10 topic lines \(30.0%\).*at most 20.0%.*topics_refused_max"),
    (cut("task_list", 8, 2), "missing_share", r"2 of 10 topics \(20.0%\).*at most 5.0%.*tasks_missing_max"),
    (cut("seed_data", 6, 4), "valid_share", r"6 of 10 .*\(60.0%\).*at least 70.0%.*seed_data_valid_min"),
    (cut("seed_data", 0), "valid_share", r"0 of 10"),
    (cut("junior_data", 4), "valid_share", r"4 of 10 .*at least 50.0%.*junior_data_valid_min"),
    (cut("senior_data", 6), "valid_share", r"6 of 10 .*senior_data_valid_min"),
    (cut("revision_data", 3, 2), "valid_share", r"3 of 5 .*revision_data_valid_min"),
    (cut("revised_data", 7, 3), "valid_share", r"7 of 10 .*at least 80.0%.*revised_data_valid_min"),
    (cut("preference_pairs", 0, 4), "pairs", r"0 preference pairs from 5 prompts, at least 1"),
    (
        lambda shelf: shelf.model("senior_model", metadata={"pairs": 2}),
        "pairs",
        r"2 preference pairs of all task types, at least 3.*pairs_min",
    ),
    (
        good_with(
            "preference_pairs",
            contradictions={"good": {"prompts": 9, "contradicted": 0}, "bad": {"prompts": 8, "contradicted": 3}},
        ),
        "judge_contradictions",
        r"bad called .* worst in another on 3 of 8 prompts .*37.5%.*at most 30.0%.*judge_contradictions_max",
    ),
    (
        good_with("preference_pairs", unreadable={"judge": {"verdicts": 8, "unreadable": 8}}),
        "judge_unreadable",
        r"8 of 8 verdicts of judge \(100.0%\).*at most 20.0%.*judge_unreadable_max",
    ),
    (
        good_with("revised_data", revisions_unreadable=11),
        "revisions_readable",
        r"9 of 20 revisions \(45.0%\).*at least 50.0%.*revisions_readable_min",
    ),
    (
        cut("final_triplets", 0, 10, removed={"too_short": 10}),
        "kept_share",
        r"is empty.*all 10 .*too_short 10.*quarantine",
    ),
    (cut("final_triplets", 4, 6), "kept_share", r"4 of 10 rows \(40.0%\).*at least 50.0%.*kept_min"),
    (cut("final_triplets", 9), "accounted", r"of 10 rows .* 9 are in the table and 0 in the quarantine.*leaves 1"),
    (cut("final_triplets", 10, 1), "accounted", r"leaves -1"),
    (cut("senior_data", 9), "accounted", r"of 10 rows .* 9 are in the table"),
    (cut("quarantine", 8), "accounted", r"of 10 rows .* 8 are in the table"),
    (cut("preference_pairs", 3), "accounted", r"of 4 rows .* 3 are in the table"),
]


@pytest.mark.parametrize(("plant", "check", "reason"), SHARES, ids=[f"{r}-{c}" for _, c, r in SHARES])
def test_too_little_is_refused_with_number_and_threshold(shelf: Shelf, plant: Any, check: str, reason: str) -> None:
    artifact = plant(shelf)
    outcome = shelf.ask(artifact, check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    if not (artifact.path / "quarantine.parquet").exists():
        return
    quarantine = artifact.table("quarantine")
    if quarantine.height and check != "accounted":
        assert outcome.metadata["quarantined_by_reason"] == [{"reason": "not_json", "rows": quarantine.height}]
        assert outcome.metadata["quarantined_rows"][0]["row_id"] == "q0"


@pytest.mark.parametrize(
    ("part", "found", "check", "reason"),
    [
        (
            "topics",
            {"covered": 30, "share": 0.75},
            "topic_coverage",
            r"30 of 40 topics .*\(75.0%\).*at least 90.0%.*topic_coverage_min",
        ),
        ("task_types", {"distance": 0.3}, "task_type_shares", r"30.0% of the rows .*10.0%.*task_type_distance_max"),
        (
            "vendi",
            {"score": 1.0, "per_row": 0.01},
            "vendi",
            r"100 sampled rows .* 0.0100 each.*0.0200.*vendi_per_row_min",
        ),
    ],
)
def test_little_diversity_warns_with_number_and_threshold(
    shelf: Shelf, part: str, found: dict[str, Any], check: str, reason: str
) -> None:
    poor = {**DIVERSITY, part: {**DIVERSITY[part], **found}}
    artifact = shelf.table("final_triplets", good_table("final_triplets", None), diversity=poor)
    outcome = shelf.ask(artifact, check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    assert outcome.metadata == poor[part]
    assert [c.blocking for c in checks_of("final_triplets") if c.name == check] == [False]


def test_thresholds_are_the_recipes_own(shelf: Shelf) -> None:
    artifact = cut("seed_data", 6, 4)(shelf)
    assert shelf.ask(artifact, "valid_share", recipe_with(seed_data_valid_min=0.6)).passed


def test_rows_that_are_not_whole_are_shown(shelf: Shelf) -> None:
    shown = shelf.ask(shelf.good("senior_data", "sts"), "valid_share").metadata["invalid_rows"]
    assert [row["row_id"] for row in shown] == [f"sts-row{ROWS - 1}"]


def test_nothing_asked_is_nothing_missing(shelf: Shelf) -> None:
    none = {**dict.fromkeys(TASK_TYPE_NAMES, ROWS), "sts": 0}
    data = RECIPE.model_dump()
    for section, field in (("seed_data", "rows"), ("preference_pairs", "prompts")):
        data[section][field] = none
    recipe = Recipe.model_validate(
        {**data, "junior_data": {**data["junior_data"], "prompts": dict.fromkeys(none, ROWS)}}
    )
    seed = shelf.table("seed_data", written("sts").clear(), 0, "sts")
    pairs = shelf.table("preference_pairs", good_table("preference_pairs", "sts").clear(), 0, "sts", asked=0)
    for artifact in (seed, pairs):
        for check in checks_of(artifact.asset):
            assert shelf.ask(artifact, check.name, recipe).passed


@pytest.mark.parametrize("field", ["query", "negative"])
def test_a_row_that_repeats_an_evaluation_text_is_refused(shelf: Shelf, field: str) -> None:
    texts = EVALUATION["microworld retrieval"]
    held = next(text for text in texts if len(text.split()) > 10)
    frame = good_table("final_triplets", None)
    planted = pl.when(pl.int_range(pl.len()) == 2).then(pl.lit(held.upper() + "!")).otherwise(field).alias(field)
    outcome = shelf.ask(shelf.table("final_triplets", frame.with_columns(planted)), "contamination")
    assert not outcome.passed
    assert f"1 of {frame.height} rows repeat evaluation text (microworld retrieval 1)" in outcome.reason
    (shown,) = outcome.metadata["failing_rows"]
    assert (shown["row_id"], shown["how"]) == (frame["row_id"][2], "exact")


def test_every_evaluation_task_must_have_been_looked_for(shelf: Shelf) -> None:
    report = METADATA["final_triplets"]["contamination"]
    frame = good_table("final_triplets", None)
    one_less = shelf.ask(shelf.table("final_triplets", frame, contamination=report[1:]), "contamination")
    assert not one_less.passed
    assert f"{report[0]['task']} was not looked for by the stage" in one_less.reason
    fewer = [{**report[0], "texts": 3}, *report[1:]]
    assert not shelf.ask(shelf.table("final_triplets", frame, contamination=fewer), "contamination").passed
    data = RECIPE.model_dump()
    data["evaluation"]["tasks"] = ["STSBenchmark"]
    artifact = shelf.good("final_triplets")
    refused = shelf.ask(artifact, "contamination", Recipe.model_validate(data))
    assert "the texts of STSBenchmark were not read" in refused.reason
    data["evaluation"]["unsearched"] = ["STSBenchmark"]
    knowingly = shelf.ask(artifact, "contamination", Recipe.model_validate(data))
    assert knowingly.passed
    assert knowingly.metadata["unsearched"] == ["STSBenchmark"]


# Models


@pytest.mark.parametrize(
    ("curve", "files", "check", "reason"),
    [
        (losses(2.0, 1.0), {"training_args__bin": b"x"}, "safe_weights", "training_args.bin may hold a pickle"),
        (losses(2.0, 1.0), {"more__safetensors": b"junk"}, "safe_weights", "more.safetensors cannot be read"),
        (losses(2.0, 1.0), {"model__safetensors": b""}, "safe_weights", "model.safetensors cannot be read"),
        (losses(2.0, float("nan"), 1.0), {}, "finite_losses", "1 of 3 losses are not finite, .* on line 2"),
        (losses(2.0, float("inf")), {}, "falling_loss", "a fall of -inf%"),
        (losses(float("nan"), 1.0), {}, "falling_loss", "a fall of nan%"),
        ("", {}, "finite_losses", "0 losses were logged"),
        ("", {}, "falling_loss", "0 losses were logged"),
        (losses(2.0, 1.9), {}, "falling_loss", r"a fall of 5.0%, at least 10.0% .*loss_drop_min"),
        (losses(*[2.0] * 10, 0.1, *[1.9] * 10), {}, "falling_loss", r"from 2 to 1.9 "),
    ],
)
def test_a_bad_model_is_refused(shelf: Shelf, curve: str, files: dict[str, bytes], check: str, reason: str) -> None:
    outcome = shelf.ask(shelf.model("junior_model", curve, **files), check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason


SFT = {"on": "held_out", "rows": 9, "loss_before": 2.0, "loss_after": 1.5}
DPO = {
    "on": "training_rows",
    "rows": 40,
    "loss_before": 0.69,
    "loss_after": 0.5,
    "reward_accuracy": 0.75,
    "reward_margin": 0.2,
}


@pytest.mark.parametrize(
    ("told", "passed", "reason"),
    [
        ([SFT], True, r"from 2 to 1.5 on 9 rows that were held out, a fall of 25.0%, at least 10.0% .*loss_drop_min"),
        ([{**SFT, "loss_after": 1.9}], False, "a fall of 5.0%"),
        ([{**SFT, "on": "training_rows"}], True, "of the training itself"),
        ([DPO, SFT], True, "on 40 rows of the training .* in 75.0%, and more than 50.0% .*reward_accuracy_min"),
        ([{**DPO, "reward_accuracy": 0.5}], False, "in 50.0%"),
        ([{**SFT, "loss_after": float("nan")}], False, "a fall of nan%"),
    ],
)
def test_a_generator_is_judged_by_rows_before_and_after(
    shelf: Shelf, told: list[dict[str, Any]], passed: bool, reason: str
) -> None:
    artifact = shelf.model("senior_model", losses(1.0, 2.0), judged=json.dumps(told))  # single steps say nothing
    outcome = shelf.ask(artifact, "falling_loss")
    assert outcome.passed == passed
    assert re.search(reason, outcome.reason), outcome.reason


def test_few_steps_are_a_warning(shelf: Shelf) -> None:
    outcome = shelf.ask(shelf.model("junior_model", losses(*[1.0] * 9)), "enough_steps")
    assert not outcome.passed
    assert "9 steps, at least 10 are asked for (checks.steps_min)" in outcome.reason
    assert not next(check for check in checks_of("junior_model") if check.name == "enough_steps").blocking
    assert shelf.ask(shelf.model("junior_model", losses(*[1.0] * 10)), "enough_steps").passed


def test_a_cut_off_weight_file_is_refused(shelf: Shelf) -> None:
    whole = (shelf.model("junior_model").path / "model" / "model.safetensors").read_bytes()
    outcome = shelf.ask(shelf.model("junior_model", model__safetensors=whole[:-4]), "safe_weights")
    assert not outcome.passed
    assert outcome.metadata["faults"][0]["file"] == "model/model.safetensors"


# Scores


def scores_without(*, model: str, task: str | None = None) -> pl.DataFrame:
    gone = (pl.col("model") == model) & (pl.lit(True) if task is None else pl.col("task") == task)
    return good_table("mteb_scores", None).filter(~gone)


def scored(model: str, score: float) -> pl.DataFrame:
    frame = good_table("mteb_scores", None)
    return frame.with_columns(score=pl.when(pl.col("model") == model).then(score).otherwise("score"))


@pytest.mark.parametrize(
    ("frame", "check", "reason"),
    [
        (scores_without(model="bm25", task="STS"), "every_score", "1 of 8 scores .*: bm25 on STS"),
        (scores_without(model="untrained"), "every_score", "2 of 8 scores .*untrained on Retrieval, untrained on STS"),
        (
            scored("untrained", 0.71),
            "beats_untrained",
            r"a gain of -0.0100, at least \+0.0000 .*gain_over_untrained_min",
        ),
        (scored("seed_data only", 0.8), "beats_baselines", r"seed_data only 0.8000 on 2 tasks, a gain of -0.1000"),
        (scored("bm25", 0.9), "beats_baselines", r"bm25 0.9000 on 2 tasks"),
        (scored("bm25", float("nan")), "beats_baselines", r"a gain of \+?nan"),
        (scores_without(model="untrained"), "beats_untrained", "no common task"),
    ],
)
def test_scores_that_do_not_hold_up(shelf: Shelf, frame: pl.DataFrame, check: str, reason: str) -> None:
    artifact = shelf.table("mteb_scores", frame)
    found = next(c for c in checks_of("mteb_scores") if c.name == check)
    outcome = evaluate(found, Subject(artifact, RECIPE, None, shelf.store))
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    assert found.blocking == (check != "beats_baselines")


def must_beat(*names: str) -> Recipe:
    return recipe_with(superior={"over": names})


def test_a_better_model_is_superior_and_the_table_shows_why(shelf: Shelf) -> None:
    artifact = shelf.table("mteb_scores", scored("bm25", 0.7))
    outcome = shelf.ask(artifact, "superior", must_beat("untrained", "seed_data"))
    assert outcome.passed
    assert "superior to untrained: +0.3000" in outcome.reason
    assert "not superior to bm25: +0.0000" in outcome.reason
    lines = outcome.metadata["table"]
    assert [(line["rival"], line["task"], line["verdict"]) for line in lines] == [
        (rival, task, word)
        for rival, word in (("untrained", "better"), ("seed_data only", "better"), ("bm25", "undecided"))
        for task in ("mean over tasks", "Retrieval", "STS")
    ]
    for line in lines:
        assert line["low"] <= line["difference"] <= line["high"]
        assert 0 < line["p"] <= line["p_adjusted"] <= 1
    refused = shelf.ask(artifact, "superior", must_beat("untrained", "bm25"))
    assert not refused.passed
    assert re.search(r"not superior to bm25: .*better on 0.*checks.superior.over", refused.reason)


def test_a_model_that_is_worse_on_one_task_is_not_superior(shelf: Shelf) -> None:
    frame = good_table("mteb_scores", None)
    planted = (pl.col("model") == "untrained") & (pl.col("task") == "STS")
    frame = frame.with_columns(score=pl.when(planted).then(0.8).otherwise("score"))
    outcome = shelf.ask(shelf.table("mteb_scores", frame), "superior", must_beat("untrained"))
    assert not outcome.passed
    assert "better on 1, worse on STS" in outcome.reason
    assert outcome.metadata["table"][0]["verdict"] == "better", "on the mean it is"


def test_scores_taken_otherwise_are_not_compared(shelf: Shelf) -> None:
    frame = good_table("mteb_scores", None)
    other = frame.with_columns(mteb=pl.when(pl.col("model") == "bm25").then(pl.lit("2")).otherwise("mteb"))
    outcome = shelf.ask(shelf.table("mteb_scores", other), "superior")
    assert not outcome.passed
    assert "embedding_model and bm25 differ in mteb on Retrieval" in outcome.reason
    lost = shelf.ask(shelf.table("mteb_scores", scored("bm25", float("nan"))), "superior")
    assert "bm25 on Retrieval has samples without a value" in lost.reason


def trained(score: float, reruns: int = 4, noise: float = 0.002) -> pl.DataFrame:
    """Good scores, with those of reruns beside the embedding model's own, spread around `score`."""
    frame = scored("embedding_model", score)
    own = frame.filter(model="embedding_model")
    others = [
        own.with_columns(model=pl.lit(f"embedding_model rerun {n}"), score=score + noise * (-1) ** n)
        for n in range(1, reruns + 1)
    ]
    return pl.concat([frame, *others])


def test_the_first_release_has_nothing_to_be_worse_than(shelf: Shelf) -> None:
    scores = shelf.table("mteb_scores", trained(0.7))
    assert "no release in this home" in shelf.ask(scores, "non_inferior").reason
    release = shelf.release(scores)
    again = shelf.ask(scores, "non_inferior")
    assert again.passed
    assert f"the scores of release {release.fingerprint[:12]}" in again.reason, "never judged against itself"


def test_a_loss_within_the_margin_passes_and_another_does_not(shelf: Shelf) -> None:
    shelf.release(shelf.table("mteb_scores", trained(0.7)))
    small = shelf.ask(shelf.table("mteb_scores", trained(0.695)), "non_inferior")
    assert small.passed, small.reason
    assert "no task may have lost more than its margin (closest: " in small.reason
    assert [(line["task"], line["verdict"], line["margin"]) for line in small.metadata["table"]] == [
        ("Retrieval", "no worse", 0.02),
        ("STS", "no worse", 0.02),
    ]
    assert small.metadata["table"][0]["seed_noise"] == pytest.approx(0.002 * (2 / 5) ** 0.5, rel=0.2)
    lost = shelf.ask(shelf.table("mteb_scores", trained(0.68)), "non_inferior")
    assert not lost.passed
    assert "2 of 2 tasks may have lost more than its margin (Retrieval -0.0200 [" in lost.reason
    wide = recipe_with(non_inferior={"margins": {"main": 0.05}})
    assert shelf.ask(shelf.table("mteb_scores", trained(0.68)), "non_inferior", wide).passed, (
        "a margin of the metric's own"
    )


def test_the_spread_between_seeds_is_part_of_the_test(shelf: Shelf) -> None:
    shelf.release(shelf.table("mteb_scores", trained(0.7, noise=0.03)))
    noisy = shelf.ask(shelf.table("mteb_scores", trained(0.701, noise=0.03)), "non_inferior")
    assert not noisy.passed, "what cannot be told from a loss is refused"
    assert "raise embedding_reruns.count" in noisy.reason
    single = Shelf(shelf.store.home.parent / "single")
    single.release(single.table("mteb_scores", trained(0.7, reruns=0)))
    alone = single.ask(single.table("mteb_scores", trained(0.699, reruns=0)), "non_inferior")
    assert alone.passed
    assert "what the seed does is unknown (embedding_reruns.count)" in alone.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pl.col("task") != "STS", "STS is missing"),
        (pl.lit("2").alias("transformers"), "transformers is 2 and was 1 on Retrieval and 1 other tasks"),
        (pl.lit("other").alias("dataset_revision"), "dataset_revision is other and was 1"),
        (pl.lit("other").alias("metric"), "metric is other and was main"),
        (pl.col("task").replace("STS", "Clustering"), "STS is missing; Clustering is new"),
    ],
)
def test_scores_taken_otherwise_than_the_last_releases_are_refused(shelf: Shelf, change: pl.Expr, reason: str) -> None:
    release = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    frame = trained(0.71)
    filtering = frame.select(change).dtypes[0] == pl.Boolean
    other = frame.filter(change) if filtering else frame.with_columns(change)
    artifact = shelf.table("mteb_scores", other)
    outcome = shelf.ask(artifact, "non_inferior")
    assert not outcome.passed
    assert reason in outcome.reason
    waived = recipe_with(non_inferior={"waived": {release.fingerprint[:12]: "mteb was raised"}})
    told = shelf.ask(artifact, "non_inferior", waived)
    assert told.passed
    assert "mteb was raised" in told.reason


def test_a_damaged_release_is_not_compared_with(shelf: Shelf) -> None:
    release = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    trained(0.1).write_parquet(release.path / "scores.parquet")
    outcome = shelf.ask(shelf.table("mteb_scores", trained(0.69)), "non_inferior")
    assert not outcome.passed
    assert "is damaged and cannot be compared with (scores.parquet has " in outcome.reason


def test_a_release_from_before_releases_held_their_scores_is_not_compared_with(shelf: Shelf) -> None:
    lineage = {"recipe": {"name": "tiny"}, "inputs": {}}
    with shelf.store.building("e" * 64) as work:
        shelf.store.seal("release", "e" * 64, work, partition=None, metadata={}, lineage=lineage)
    outcome = shelf.ask(shelf.table("mteb_scores", trained(0.7)), "non_inferior")
    assert outcome.passed
    assert "before releases held their scores" in outcome.reason


def test_the_release_in_use_is_what_is_compared_with(shelf: Shelf) -> None:
    old = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    shelf.release(shelf.table("mteb_scores", trained(0.75)))
    new = shelf.table("mteb_scores", trained(0.71))
    assert not shelf.ask(new, "non_inferior").passed
    roll_back(shelf.store, "tiny")
    outcome = shelf.ask(new, "non_inferior")
    assert outcome.passed
    assert old.fingerprint[:12] in outcome.reason


def test_a_recipe_cannot_ask_to_beat_what_is_not_scored() -> None:
    with pytest.raises(ValueError, match=r"checks\.superior\.over names junior_data"):
        must_beat("junior_data")


# Keys, crashes, the gate


def test_the_key_of_a_verdict_follows_check_and_thresholds() -> None:
    keys = {check_key(check, RECIPE) for check in CHECKS}
    assert len(keys) == len(CHECKS)
    moved = [check for check in CHECKS if check_key(check, RECIPE) != check_key(check, recipe_with(pairs_min=4))]
    assert [(check.asset, check.name) for check in moved] == [("senior_model", "pairs")]


def test_a_check_sees_no_threshold_that_is_not_in_its_key(shelf: Shelf) -> None:
    artifact = shelf.table("final_triplets", good_table("final_triplets", None), rows_in=1)
    kept = next(check for check in CHECKS if check.name == "kept_share")
    undeclared = evaluate(replace(kept, thresholds=()), Subject(artifact, RECIPE, None, shelf.store))
    assert "could not be carried out (AttributeError" in undeclared.reason
    assert "carried out" not in evaluate(kept, Subject(artifact, RECIPE, None, shelf.store)).reason


def test_what_cannot_be_judged_has_failed(shelf: Shelf) -> None:
    artifact = shelf.table("final_triplets", good_table("final_triplets", None), rows_in=None)
    outcome = shelf.ask(artifact, "kept_share")
    assert not outcome.passed
    assert "could not be carried out" in outcome.reason
    assert "rows_in" in outcome.reason


def test_the_gate_opens_for_good_artifacts_and_names_every_reason_otherwise(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, recipe_with(source="seed_data"))
    for stage, partition in shelf.in_build_order():
        if stage.name not in ("release", "quarantine"):
            shelf.good(stage.name, partition)
    assert refusals(shelf) == [], "the quarantine holds no release up"

    cut("seed_data", 6, 4)(shelf)
    shelf.table("mteb_scores", scored("bm25", 0.9))  # only warns
    del shelf.artifacts["task_list", "sts"]
    missing, poor = refusals(shelf)
    assert missing == "task_list/sts has not been materialized under this recipe"
    assert poor.startswith("seed_data/retrieval valid_share: 6 of 10 ")


def test_neither_gate_nor_registry_imports_dagster_or_great_expectations() -> None:
    code = "import sys, checks.gates; print(*{'dagster', 'great_expectations', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Dagster


def run_all(shelf: Shelf, task_type: str | None, *assets: str) -> tuple[dg.ExecuteInProcessResult, set[str]]:
    """The result of one run of assets in a row, each materialized without doing anything and judged, and what it made."""
    steps = [(name, task_type if name in PARTITIONED else None) for name in assets]

    def make(place: int) -> dg.AssetsDefinition:
        above = [key_of(steps[place - 1])] if place else []

        @dg.asset(key=key_of(steps[place]), deps=above, check_specs=specs_of(steps[place], shelf))
        def judged() -> dg.MaterializeResult:  # type: ignore[type-arg]
            return dg.MaterializeResult(check_results=list(results_of(shelf.get(*steps[place]), shelf)))

        return judged

    with dg.DagsterInstance.ephemeral() as instance:
        defs = dg.Definitions([make(place) for place in range(len(steps))], jobs=[dg.define_asset_job("all")])
        result = defs.resolve_job_def("all").execute_in_process(instance=instance, raise_on_error=False)
        made = {e.asset_key for e in result.get_asset_materialization_events() if e.asset_key}
        return result, {step_of(key)[0] for key in made}


def test_every_check_of_the_graph_is_an_asset_check_with_its_severity(tmp_path: Path) -> None:
    recipe = recipe_with(source="seed_data")
    specs = {}
    for asset in build_defs(recipe, tmp_path).resolve_asset_graph().assets_defs:
        for spec in asset.check_specs:
            specs[step_of(spec.asset_key)[0], spec.name] = spec
    graph = recipe.graph()
    gates = {name for asset, name in specs if asset == "release"}
    assert gates == {check.asset for check in CHECKS if check.blocking and check.asset in graph} - {"quarantine"}
    of_assets = {name: spec for name, spec in specs.items() if name[0] != "release"}
    assert set(of_assets) == {(check.asset, check.name) for check in CHECKS if check.asset in graph}
    for check in CHECKS:
        if check.asset in graph and check.asset not in ("mteb_scores", "quarantine"):  # only the release is below
            assert specs[check.asset, check.name].blocking == check.blocking


def test_a_failed_gate_stops_what_is_downstream_and_says_why(shelf: Shelf) -> None:
    cut("seed_data", 6, 4)(shelf)
    result, made = run_all(shelf, "retrieval", "seed_data", "junior_data")
    assert not result.success
    assert made == {"seed_data"}
    verdicts = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert verdicts["expectations"].passed
    poor = verdicts["valid_share"]
    assert not poor.passed
    assert poor.blocking
    assert poor.severity == dg.AssetCheckSeverity.ERROR
    assert poor.asset_key.path == ["seed_data", "retrieval"]
    assert (poor.description or "").startswith("6 of 10 rows asked for (60.0%) are valid, at least 70.0%")
    assert isinstance(poor.metadata["quarantined_rows"], dg.JsonMetadataValue)

    check = next(c for c in checks_of("seed_data") if c.name == "valid_share")
    kept = shelf.load_outcome(shelf.get("seed_data", "retrieval"), "valid_share", check_key(check, RECIPE))
    assert kept is not None
    assert (kept["passed"], kept["reason"]) == (False, poor.description)


def test_a_failed_warning_stops_nothing(shelf: Shelf) -> None:
    shelf.table("mteb_scores", scored("bm25", 0.9))
    shelf.good("embedding_model")
    result, made = run_all(shelf, None, "mteb_scores", "embedding_model")
    assert result.success
    assert made == {"mteb_scores", "embedding_model"}
    verdicts = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert not verdicts["beats_baselines"].passed
    assert verdicts["beats_baselines"].severity == dg.AssetCheckSeverity.WARN
    assert isinstance(verdicts["superior"].metadata["table"], dg.TableMetadataValue)
    assert all(e.passed for name, e in verdicts.items() if name != "beats_baselines")
