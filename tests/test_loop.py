"""The whole graph on tiny data: made, checked, released, reused, and rebuilt where something changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from checks.registry import checks_of
from resources.ledger.ledger import Ledger
from resources.releases.releases import current_release, find_release, roll_back
from resources.store.artifacts import Artifacts, partitions_of
from resources.store.manifests import integrity_problem
from resources.store.store import Store
from speed_assets.domain.fingerprints import short_id
from speed_assets.domain.rows import drawn_topics
from speed_assets.orchestration import run_report, runs
from speed_assets.orchestration.diff import Now, diff
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Recipe
from tests.support.tiny import ROWS, tiny_recipe

CAP = 210  # calls: it falls into the stages that ask before any model is trained
MODELS = ["junior_model", "senior_model", "revisor_model", "embedding_model", "baseline_models"]


def small(**changes: Any) -> Recipe:
    """The tiny recipe on all topics of its file, so that one that is changed is in every artifact."""
    return tiny_recipe(**{"topics__limit": None, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the tiny recipe has been run once, in two goes: a cap cut the first one short."""
    home = tmp_path_factory.mktemp("home")
    planned = plan(small(), home).as_json()
    assert (planned["known_calls"], planned["reuse"]) == (0, [])
    capped = small(money={"run": {"calls": CAP}})
    cut = runs.run(capped, home)
    assert len(cut.errors) == 1
    assert "money.run.calls" in cut.errors[0]
    assert Ledger.at(home).count() == CAP
    left = plan(small(), home).as_json()
    assert left["calls"] == planned["calls"] - CAP
    report = runs.run(small(), home)
    assert report.errors == []
    assert calls_of(report) == left["calls"]
    assert Ledger.at(home).count() == planned["calls"], "what is planned is asked, and nothing twice"
    return home


def written_rows(report: run_report.RunReport) -> dict[str, int]:
    """Rows that the senior wrote in a run, by artifact."""
    return {name: report.metadata[name]["generated_rows"] for name in report.made if name.startswith("senior_data")}


def calls_of(report: run_report.RunReport) -> int:
    return sum(int(report.metadata[name].get("teacher_calls") or 0) for name in report.made)


def artifacts_of(home: Path, recipe: Recipe) -> Artifacts:
    return Artifacts(recipe, Store(home))


def test_every_artifact_is_made_checked_and_whole(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.get(stage.name, partition)
        assert integrity_problem(artifact.path) is None
    counts = run_report.check_counts(artifacts)
    assert counts["failed"] == 0
    asked = sum(len(checks_of(s.name)) * len(partitions_of(s)) for s in artifacts.graph.values())
    assert counts["passed"] + counts["warned"] == asked


def test_every_row_is_accounted_for(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    for task_type, asked in ROWS.items():
        seed = artifacts.get("seed_data", task_type)
        assert seed.table().height + seed.table("quarantine").height == asked
        assert artifacts.get("senior_data", task_type).table().height == 2 * asked
        revised = artifacts.get("revised_data", task_type)
        assert revised.table().height + revised.table("quarantine").height == 2 * asked
    final = artifacts.get("final_triplets")
    rows_in = sum(artifacts.get("revised_data", t).table().height for t in ROWS)
    assert final.table().height + final.table("quarantine").height == rows_in
    gathered = artifacts.get("quarantine")
    tables = [
        artifacts.get(s.name, p) for s, p in artifacts.in_build_order() if s.kind == "table" and s.name != "quarantine"
    ]
    assert gathered.table().height == sum(table.table("quarantine").height for table in tables) > 0
    assert {*gathered.table()["stage"]} == {table.asset for table in tables if table.table("quarantine").height}
    assert sum(count["rows"] for count in gathered.metadata["counts"]) == gathered.table().height
    assert 1_000 < (gathered.path / "aside" / "quarantine_counts.png").stat().st_size < 60_000


def test_the_topics_asked_for_are_those_that_were_written_about(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    written = [artifacts.get("senior_data", task_type).table() for task_type in ROWS]
    topics = pl.concat([table.select("task_type", "topic").unique() for table in written])
    final = artifacts.get("final_triplets")
    kept = final.table().select("task_type", "topic").unique()
    found = final.metadata["diversity"]["topics"]
    assert found["asked"] == topics["topic"].n_unique()
    assert found["covered"] == kept["topic"].n_unique()
    for task_type, share in found["by_task_type"].items():
        asked, there = (frame.filter(task_type=task_type).height for frame in (topics, kept))
        assert share == round(there / asked, 4)


def test_how_answers_were_read_is_reported_and_plotted(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    for asset in ("seed_data", "junior_data", "senior_data"):
        artifact = artifacts.get(asset, "retrieval")
        assert sum(artifact.metadata["read_as"].values()) == artifact.metadata["asked"]
        assert (artifact.path / "aside" / "parse_funnel.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.faults
def test_lanes_change_no_byte(home: Path, tmp_path: Path) -> None:
    """The same content from one step at a time, up to the training data, as from several."""
    one = small(runtime__lanes={"cpu": 1, "gpu": 1, "teacher": 1})
    assert runs.run(one, tmp_path, select="*final_triplets").errors == []
    there, here = artifacts_of(home, small()), artifacts_of(tmp_path, one)
    for stage, partition in here.in_build_order(above="embedding_model"):
        assert here.get(stage.name, partition).digest == there.get(stage.name, partition).digest, (
            stage.name,
            partition,
        )


def test_second_run_reuses_everything(home: Path) -> None:
    report = runs.run(small(), home)
    assert report.made == {}
    summary = run_report.summary(report, artifacts_of(home, small()))
    assert (summary["trained"], summary["teacher_calls"]) == ([], 0)
    assert summary["reused"] == list(small().graph())


def test_the_plan_of_an_unchanged_recipe_is_empty(home: Path) -> None:
    planned = plan(small(), home).as_json()
    assert (planned["make"], planned["record"], planned["calls"], planned["money"]) == ([], [], 0, 0)


def test_a_changed_topic_is_planned_and_paid_as_planned_and_retrains_no_generator(home: Path, tmp_path: Path) -> None:
    lines = Path(small().topics.file).read_text().splitlines()
    aligned = Path(small().topics.alignment or "").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("Arts/") and line not in aligned)
    changed = tmp_path / "topics.txt"
    new = next(name for name in (f"Arts/Glass/Goblet {n}" for n in range(2_000)) if is_drawn(home, name))
    changed.write_text("\n".join([*lines[:place], new, *lines[place + 1 :]]))
    recipe = small(topics__file=str(changed))
    planned = plan(recipe, home).as_json()
    report = runs.run(recipe, home)
    assert report.errors == []
    # Which rows the teacher reads for row_verdicts is known when they are written: its calls are a bound.
    bounded = sum(step["calls"] for step in planned["steps"] if step["asset"] == "row_verdicts")
    asked = sum(len(topics_of(home, recipe, name) - topics_of(home, small(), name)) for name in ROWS if name != "sts")
    assert planned["calls"] - bounded == asked, "one brainstorm for each task type that draws another topic"
    assert 1 <= asked <= 4
    assert asked <= calls_of(report) <= planned["calls"], "a new row moves scores, and by them which rows are read"
    assert set(report.made) <= set(planned["make"])
    assert "senior_data/retrieval" in report.made
    assert sum(written_rows(report).values()) <= 2 * len(ROWS), (
        "rows on other topics are taken from the artifact that holds them"
    )
    assert not {"seed_data", "junior_model", "junior_data", "senior_model"} & {
        name.split("[")[0] for name in report.made
    }
    assert plan(recipe, home).as_json()["make"] == []


def topics_of(home: Path, recipe: Recipe, task_type: str) -> set[str]:
    """Topics that tasks of a type were brainstormed for."""
    artifact = artifacts_of(home, recipe).get("task_list", task_type)
    return {*artifact.table()["topic"], *artifact.table("quarantine")["row_id"]}


def is_drawn(home: Path, topic: str) -> bool:
    """Whether rows at scale would be about a topic, were it one of the recipe's."""
    recipe, topic_id = small(), short_id("topic", topic)
    known = artifacts_of(home, recipe).get("topics").table().filter("synthesis")["topic_id"]
    assert recipe.senior_data
    rows = recipe.senior_data.rows.retrieval
    return topic_id in drawn_topics([*known, topic_id], recipe.task_list.per_topic, rows, recipe.seed, "senior_data")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topics.alignment", None),
        ("evaluation.local", ["SETS"]),
        ("seed_data.rows", {**ROWS, "sts": 15}),
        ("senior_data.writer", "junior_model"),
        ("embedding_model.learning_rate", 0.07),
        ("runtime.threads", 2),
    ],
)
def test_what_a_field_is_said_to_make_stale_is_what_is_planned(
    home: Path, tmp_path: Path, field: str, value: Any
) -> None:
    if value == ["SETS"]:
        (tmp_path / "rows.jsonl").write_text('{"text": "a set of my own"}\n')
        value = [str(tmp_path)]
    told = explain_field(small(), field)
    made = {
        step.asset for step in plan(small(**{field.replace(".", "__"): value}), home).steps if step.action == "make"
    }
    first = {name for name in made if not made.intersection(small().graph()[name].inputs)}
    assert first <= set(told.stale) <= made <= {*told.stale, *told.downstream}


def test_a_file_of_the_same_content_makes_nothing_stale_and_another_content_what_is_said(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / Path(small().topics.file).name
    file.write_bytes(Path(small().topics.file).read_bytes())
    recipe = small(topics__file=str(file))
    assert plan(recipe, home).as_json()["make"] == []
    told = explain_field(recipe, "topics.file")
    with file.open("a") as end:
        end.write("Arts/Glass/Goblets\n")
    made = {step.asset for step in plan(recipe, home).steps if step.action == "make"}
    assert "topics" in told.by_content
    assert set(told.by_content) <= made <= {*told.stale, *told.downstream}


def test_the_plan_says_what_changed(home: Path) -> None:
    steps = {step.name: step for step in plan(small(embedding_model__learning_rate=0.07), home).steps}
    assert steps["senior_model"].action == "reuse"
    assert "embedding_model.learning_rate" in steps["embedding_model"].why
    assert "-> 0.07" in steps["embedding_model"].why
    assert steps["release"].why == "embedding_model has to be made first"
    assert steps["embedding_model"].seconds is not None


@pytest.mark.faults
def test_changed_learning_rate_retrains_the_embedding_and_nothing_above(home: Path) -> None:
    recipe = small(embedding_model__learning_rate=0.02)
    report = runs.run(recipe, home)
    assert report.errors == []
    assert set(report.made) == {"embedding_model", "embedding_reruns", "baseline_models", "mteb_scores", "release"}
    back = runs.run(small(), home)
    assert back.made == {}, "the old artifacts are still there"
    assert runs.run(small(), home).reused.keys() == back.reused.keys()


def test_truncated_artifacts_are_rebuilt_and_nothing_else(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    table = artifacts.get("seed_data", "sts").path / "data.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    weights = artifacts.get("junior_model").path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    said: list[str] = []
    report = runs.run(small(), home, say=said.append)
    assert report.errors == []
    assert {"seed_data/sts", "junior_model"} <= set(report.made)
    assert any("data.parquet has" in line for line in said)
    assert any("model.safetensors has" in line for line in said)
    calls = sum(int(m.get("teacher_calls") or 0) for name, m in report.metadata.items() if name in report.made)
    assert calls == 0, "the ledger still has every answer"


def test_release_opens_with_the_libraries_of_its_users(home: Path) -> None:
    datasets = pytest.importorskip("datasets")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    release = artifacts_of(home, small()).get("release").path
    rows = datasets.load_dataset(str(release / "data"), "retrieval", split="train")
    assert {"query", "positive", "negative"} <= set(rows.column_names)
    model = sentence_transformers.SentenceTransformer(str(release / "model"))
    assert model.encode(["a", "b"]).shape == (2, 32)
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["artifacts"]["junior_model"]["digest"]
    for part in ("model", "data"):
        card = (release / part / "README.md").read_text()
        assert 'license: "mit"' in card
        for heading in ("Data", "Written by", "Calls and cost", "Contamination", "Licences", "Limits", "Made of"):
            assert f"## {heading}\n" in card
        assert f"| {manifest['teacher']['calls']:,} | {manifest['teacher']['prompt_tokens']:,} |" in card
        assert "| microworld retrieval | " in card
    assert manifest["teacher"]["calls"] > CAP
    assert manifest["trainings"] == 2
    score = manifest["scores"]["embedding_model"]["MicroworldRetrieval"]
    low, high = manifest["score_intervals"]["embedding_model"]["MicroworldRetrieval"]
    assert low < score < high
    card = (release / "model" / "README.md").read_text()
    assert f"{score:.3f} [{low:.3f}, {high:.3f}]" in card
    assert "*sd between seeds*" in card


@pytest.mark.faults
def test_a_new_release_is_current_and_two_are_distinguished(home: Path) -> None:
    store = Store(home)
    old = artifacts_of(home, small()).get("release")
    changed = small(embedding_model__learning_rate=0.013)
    assert runs.run(changed, home).errors == []
    new = artifacts_of(home, changed).get("release")
    assert (home / "releases" / "current" / "tiny" / "model").is_dir()
    now = current_release(store, "tiny")
    assert now is not None
    assert now.fingerprint == new.fingerprint
    found = diff(find_release(store, old.fingerprint[:12]), find_release(store, str(new.path)))
    assert found["recipe"] == {"embedding_model.learning_rate": [0.1, 0.013]}
    assert set(found["made_of"]) == {"embedding_model", "embedding_reruns", "baseline_models", "mteb_scores"}
    assert found["rows"] == {}
    mean, *tasks = found["scores"]["lines"]
    assert mean["task"] == "mean over tasks"
    assert len(tasks) == 6
    assert all(line["low"] <= line["difference"] <= line["high"] for line in tasks)
    same = diff(find_release(store, old.fingerprint), find_release(store, old.fingerprint))
    assert not any(same[part] for part in ("recipe", "made_of", "rows", "figures"))
    assert all(line["difference"] == 0 for line in same["scores"]["lines"])
    assert runs.run(small(), home).errors == []
    roll_back(store, "tiny", old.fingerprint[:12])
    assert runs.run(small(), home).errors == []
    now = current_release(store, "tiny")
    assert now is not None
    assert now.fingerprint == old.fingerprint, "what was chosen stays until something new is released"


@pytest.mark.faults
def test_release_is_refused_with_every_reason(home: Path) -> None:
    checks = small().checks.model_dump() | {"gain_over_untrained_min": 1.0, "kept_min": 1.0}
    recipe = small(checks=checks, final_triplets__near_duplicates={"jaccard": 0.3})
    report = runs.run(recipe, home)
    assert any("kept" in error for error in report.errors)
    artifacts = artifacts_of(home, recipe)
    assert artifacts.fetch("release") is None
    before = set((home / "releases").iterdir())
    refused = runs.run(recipe, home, select="embedding_model")
    assert refused.errors == []
    for asset in ("baseline_models", "embedding_reruns", "mteb_scores", "release"):
        refused = runs.run(recipe, home, select=asset)
    assert len(refused.refused) >= 2, refused
    _is_next_to_the_release_in_use(home, recipe, refused.errors)
    assert set((home / "releases").iterdir()) == before, "all or nothing"


def _is_next_to_the_release_in_use(home: Path, recipe: Recipe, errors: list[str]) -> None:
    """A refused candidate is compared in tables: in the failure, on the checks of `release`, and by `speed diff --now`."""
    artifacts = artifacts_of(home, recipe)
    last = current_release(artifacts.store, "tiny")
    assert last is not None
    assert f"`speed diff {last.short} --now`" in " ".join(errors)
    instance = runs.Instance.of(home).dagster
    (failed,) = [
        entry.dagster_event.step_failure_data.user_failure_data
        for entry in instance.all_logs(instance.get_runs(limit=1)[0].run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        if entry.dagster_event
    ]
    assert failed is not None
    tables = {name: value for name, value in failed.metadata.items() if isinstance(value, dg.TableMetadataValue)}
    assert set(tables) == {"scores", "rows", "gates"}
    score = tables["scores"].records[0].data
    assert set(score) == {"task", "release", "candidate", "difference", "low", "high", "verdict"}
    assert score["low"] <= score["difference"] <= score["high"]
    assert {row.data["gate"] for row in tables["gates"].records} >= {"beats_untrained", "kept_share"}
    rows = tables["rows"].records[-1].data
    assert rows["change"] == rows["candidate"] - rows["release"]

    found = diff(last, Now(artifacts))
    assert found["new"] == "now"
    assert found["recipe"]["checks.kept_min"] == [0.0, 1.0]
    assert found["scores"]["lines"][0]["difference"] == score["difference"]
    assert found["rows"]["all"][1] == rows["candidate"]


def test_dagster_knows_versions_rows_and_checks(home: Path) -> None:
    instance = runs.Instance.of(home).dagster
    runs.run(small(), home)
    event = instance.get_latest_materialization_event(dg.AssetKey("final_triplets"))
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    artifact = artifacts_of(home, small()).get("final_triplets")
    assert materialization.tags is not None
    assert materialization.tags["dagster/data_version"] == artifact.digest[:32]
    metadata = materialization.metadata
    assert metadata["dagster/row_count"].value == artifact.metadata["rows"]
    assert "dagster/column_schema" in metadata


def test_quarantine_has_a_reason_for_every_row(home: Path) -> None:
    artifacts = artifacts_of(home, small())
    for asset in ("seed_data", "preference_pairs", "revision_data", "revised_data"):
        for task_type in ROWS:
            quarantine = artifacts.get(asset, task_type).table("quarantine")
            assert quarantine.filter(pl.col("reason").is_null()).is_empty()
