"""Outcomes have keys, the gate before a release is checked again, and Dagster shows every check."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg

from checks.asset_checks import gate_results, results_of, specs_of
from checks.candidate import refusal_of
from checks.gates import refusals
from checks.registry import CHECKS, Subject, check_key, checks_of, evaluate
from resources.store.asset_keys import key_of, step_of
from speed_assets.build import build_defs
from speed_assets.domain.gate_refusals import GateRefusal
from tests.support.good_tables import good_table
from tests.support.shelf import (
    PARTITIONED,
    RECIPE,
    Shelf,
    cut,
    recipe_with,
    scored,
)


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
    sentence = "task_list/sts has not been materialized under this recipe"
    assert missing == GateRefusal("task_list", "sts", None, sentence)
    assert (poor.stage, poor.partition, poor.check) == ("seed_data", "retrieval", "valid_share")
    assert poor.sentence.startswith("seed_data/retrieval valid_share: 6 of 10 ")

    failed = {
        result.check_name: result.description for result in gate_results(shelf, [asdict(poor)]) if not result.passed
    }
    assert failed == {"seed_data": poor.sentence}

    refusal = refusal_of(shelf)
    assert refusal is not None
    assert (refusal.reasons, refusal.compare_with) == ([missing, poor], None)
    assert {(row["artifact"], row["gate"]) for row in refusal.tables["gates"]} == {
        ("task_list/sts", "made"),
        ("seed_data/retrieval", "valid_share"),
    }
    for row in refusal.tables["scores"]:
        assert set(row) == {"task", "candidate", "low", "high"}
        assert row["low"] <= row["candidate"] <= row["high"]
    everything = refusal.tables["rows"][-1]
    assert everything["task_type"] == "all"
    assert everything["change"] == everything["candidate"] > 0
    assert all(result.passed for result in gate_results(shelf, []))


def test_neither_gate_nor_registry_imports_dagster_or_great_expectations() -> None:
    code = "import sys, checks.gates; print(*{'dagster', 'great_expectations', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


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
    rows = poor.metadata["quarantined_rows"]
    assert isinstance(rows, dg.TableMetadataValue), "cells are plain text"
    assert {"row_id", "reason", "raw"} <= set(rows.records[0].data)

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
