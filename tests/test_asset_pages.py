"""What a person sees of an asset before and after it is made: edges, code, freshness, tables, plots, an interrupted step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from checks.asset_checks import _shown as shown_of_check
from resources.store.store import UNHASHED_DIR, Artifact, Store
from speed_assets import build
from speed_assets.assets.asset_page import _score_rows, describe
from speed_assets.assets.stage import INTERRUPTED
from speed_assets.assets.stage_run import StageRun
from speed_assets.build import build_defs
from speed_assets.domain.graph import shown_sources, sources, upstream
from speed_assets.orchestration import run_events, runs
from speed_assets.orchestration.staleness import Instance
from tests.support.tiny import tiny_recipe

_ENDS = (dg.DagsterEventType.PIPELINE_FAILURE, dg.DagsterEventType.PIPELINE_CANCELED)


def test_the_quarantine_has_an_edge_only_from_the_last_tables() -> None:
    graph = tiny_recipe().graph()
    seen = shown_sources(graph, "quarantine", None)
    assert seen == [("final_triplets", None)]
    assert {name for name, _ in sources(graph, "quarantine", None)} <= upstream(graph, [name for name, _ in seen])
    assert shown_sources(graph, "junior_model", None) == sources(graph, "junior_model", None)


def test_assets_link_to_their_code_and_scores_and_release_have_a_freshness_policy(tmp_path: Path) -> None:
    graph = build_defs(tiny_recipe(), tmp_path).resolve_asset_graph()
    fresh = set()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        (reference,) = node.metadata["dagster/code_references"].code_references
        assert Path(reference.file_path).read_text().splitlines()[reference.line_number - 1].startswith("def ")
        if node.freshness_policy is not None:
            fresh.add(key.to_user_string())
        assert node.description
    assert fresh == {"mteb_scores", "release"}


def test_rows_are_tables_and_plots_of_several_models_are_shown(tmp_path: Path) -> None:
    plots = tmp_path / UNHASHED_DIR / "rerun_1"
    plots.mkdir(parents=True)
    for file in (plots.parent / "scores.png", plots / "loss.png"):
        file.write_bytes(b"png")
    metadata = {
        "scores": {"embedding_model": {"STS": 0.51239, "Retrieval": 0.4}, "bm25": {"STS": 0.3, "Retrieval": 0.2}},
        "removed": {"repeated": 3},
        "seconds": 1.23456,
    }
    artifact = Artifact("mteb_scores", "f" * 64, "d" * 64, None, {}, metadata, {}, 0.0, tmp_path)
    page = describe(artifact, False, 1.0, {})
    assert next(iter(page)) == "scores"
    table = page["scores"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data == {"name": "embedding_model", "STS": 0.5124, "Retrieval": 0.4}
    assert {"scores_plot", "loss_of_rerun_1"} <= set(page)
    assert page["seconds"] == 1.235
    assert list(page)[-2:] == ["fingerprint", "digest"]


def test_the_page_of_a_release_says_where_it_is_before_figures(tmp_path: Path) -> None:
    artifact = Artifact("release", "f" * 64, "d" * 64, None, {}, {"number": 1, "seconds": 1.0}, {}, 0.0, tmp_path)
    page = describe(artifact, False, 1.0, {})
    assert list(page)[:3] == ["number", "folder", "seconds"]
    assert page["folder"] == dg.MetadataValue.path(str(tmp_path))
    assert "dagster/uri" not in page, "Dagster's pages do not show it"


def test_why_an_asset_is_stale_is_said_as_of_the_last_reload(tmp_path: Path) -> None:
    defs = build_defs(tiny_recipe(), tmp_path, notes={"topics": "To make: 4 topics new."})
    graph = defs.resolve_asset_graph()
    said = graph.get(dg.AssetKey("topics")).description
    assert said is not None
    assert said.startswith("To make: 4 topics new. (As of the last reload")
    assert "reload" not in (graph.get(dg.AssetKey("release")).description or "")


def test_example_rows_of_a_check_are_a_table_of_plain_text() -> None:
    rows = [{"row_id": "1", "raw": "<b>[x](http://y)"}, {"row_id": "2", "raw": None}]
    shown = shown_of_check({"failing_rows": rows, "gains": [], "nested": [{"a": [1]}]})
    table = shown["failing_rows"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data["raw"] == "<b>[x](http://y)"
    assert isinstance(shown["nested"], dg.JsonMetadataValue)
    assert isinstance(shown["gains"], dg.JsonMetadataValue)


def test_numbers_of_a_check_are_rounded() -> None:
    shown = shown_of_check(
        {"gains": [{"rival": "bm25", "tasks": 6, "gain": 0.027195666666666674}], "share": 1 / 3, "rows": 7}
    )
    gains = shown["gains"]
    assert isinstance(gains, dg.TableMetadataValue)
    assert gains.records[0].data == {"rival": "bm25", "tasks": 6, "gain": 0.0272}
    assert shown["share"].value == 0.3333
    assert shown["rows"].value == 7


def test_two_runs_at_once_do_not_mix_a_materialization_with_checks_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    @contextmanager
    def recording(_store: Store, label: str) -> Iterator[None]:
        order.append(label)
        yield
        order.append("end")

    handle = dg.DagsterInstance.handle_new_event

    def seen(instance: dg.DagsterInstance, entry: dg.EventLogEntry, **options: Any) -> None:
        if entry.dagster_event_type in (
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        ):
            order.append(entry.dagster_event_type.value)
        handle(instance, entry, **options)

    monkeypatch.setattr(Store, "recording", recording)
    monkeypatch.setattr(dg.DagsterInstance, "handle_new_event", seen)
    job = build_defs(tiny_recipe(), tmp_path).resolve_job_def("everything")
    assert job.execute_in_process(
        asset_selection=[dg.AssetKey("topics")], instance=Instance.of(tmp_path).dagster
    ).success
    assert order[:2] == ["topics", "ASSET_MATERIALIZATION"]
    assert set(order[2:-1]) == {"ASSET_CHECK_EVALUATION"}
    assert order[-1] == "end"


def test_an_interrupted_step_says_that_finished_work_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_run: object) -> dict[str, object]:
        raise DagsterExecutionInterruptedError

    monkeypatch.setitem(build.FUNCTIONS, "topics", interrupted)
    result = (
        build_defs(tiny_recipe(), tmp_path)
        .resolve_job_def("everything")
        .execute_in_process(asset_selection=[dg.AssetKey("topics")], raise_on_error=False)
    )
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert data.user_failure_data.description == INTERRUPTED
    assert data.error is not None
    assert data.error.cause is None, "one trace, not the chain behind it"


def test_an_interrupted_run_says_so_in_each_event_and_shows_no_chain_of_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, calls = build.FUNCTIONS["topics"], []

    def waiting(run: StageRun[Any]) -> dict[str, Any]:
        calls.append(run)
        if len(calls) > 1:  # the first is the plan's
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                time.sleep(0.1)
        return topics(run)

    monkeypatch.setitem(build.FUNCTIONS, "topics", waiting)
    with pytest.raises(KeyboardInterrupt):
        runs.run(tiny_recipe(), tmp_path, select="topics")
    instance = Instance.of(tmp_path).dagster
    (run,) = instance.get_runs()
    assert run.is_finished
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
    errors = [run_events.error_of(e) for e in events if e.is_step_failure or e.event_type in _ENDS]
    assert errors
    for error in errors:
        assert error is not None
        assert INTERRUPTED in error.message
        assert error.cause is None


def test_scores_of_a_release_begin_with_its_model() -> None:
    rows = _score_rows({"bm25": {"STS": 0.3}, "embedding_model": {"STS": 0.51239}}, {})
    assert [(row["model"], row["score"]) for row in rows] == [("embedding_model", 0.5124), ("bm25", 0.3)]
