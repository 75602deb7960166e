"""Fingerprints and the store: what changes them, what does not, and what a damaged disk does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from resources.store.artifacts import Artifacts, NotMaterialized
from resources.store.manifests import MANIFEST_FILE, integrity_problem, integrity_problems
from resources.store.store import UNHASHED_DIR, Artifact, Store, StoreError
from speed_assets.assets.asset_page import describe
from speed_assets.domain.graph import ALL_STAGES, DataSource, Shape, build_graph, downstream
from speed_assets.recipe import Recipe
from tests.support.tiny import ROWS, tiny_recipe


def artifacts_of(home: Path, recipe: Recipe) -> Artifacts:
    return Artifacts(recipe, Store(home).open())


def fill(
    artifacts: Artifacts, asset: str, partition: str | None = None, rows: int = 1, synthesis: str = "s"
) -> Artifact:
    """A small artifact in the place of a real one."""
    parts = {"synthesis": synthesis, "alignment": "a"}
    fingerprint = artifacts.fingerprint(asset, partition)
    with artifacts.store.building(fingerprint) as work:
        pl.DataFrame({"asset": [asset] * rows, "partition": [partition] * rows}).write_parquet(work / "data.parquet")
        return artifacts.store.seal(
            asset,
            fingerprint,
            work,
            partition=partition,
            metadata={"parts": parts},
            lineage=artifacts.lineage(asset, partition),
        )


def fill_all(artifacts: Artifacts) -> dict[tuple[str, str | None], str]:
    return {(s.name, p): fill(artifacts, s.name, p).fingerprint for s, p in artifacts.in_build_order()}


def changed_by(tmp_path: Path, **changes: object) -> set[str]:
    """Assets with another fingerprint under a changed recipe, all contents being the same."""
    before = fill_all(artifacts_of(tmp_path, tiny_recipe()))
    after = fill_all(artifacts_of(tmp_path, tiny_recipe(**changes)))
    return {asset for (asset, partition), fingerprint in after.items() if before[asset, partition] != fingerprint}


@pytest.mark.parametrize(
    ("path", "value", "readers"),
    [
        (
            "embedding_model__learning_rate",
            0.5,
            {"embedding_model", "embedding_reruns", "baseline_models", "mteb_scores", "release"},
        ),
        ("senior_model__beta", 0.3, {"senior_model", "release"}),
        ("revised_data__sampling", {"temperature": 0.5, "max_new_tokens": 90}, {"revised_data", "release"}),
        ("evaluation__microworld", {"topics": 13, "rows": 60}, {"final_triplets", "mteb_scores", "release"}),
        ("checks__pairs_min", 1, {"release"}),
        ("runtime", {"threads": 1, "teacher_batch": 7}, set()),
        ("topics__limit", 21, {"topics", "release"}),
        ("senior_data__writer", "junior_model", {"senior_data", "row_scores", "quarantine", "release"}),
    ],
)
def test_a_changed_number_touches_exactly_its_readers_and_the_release_that_states_it(
    tmp_path: Path, path: str, value: object, readers: set[str]
) -> None:
    assert changed_by(tmp_path, **{path: value}) == readers


def test_rows_of_one_task_type_leave_the_others_alone(tmp_path: Path) -> None:
    before, after = artifacts_of(tmp_path, tiny_recipe()), None
    rows = {**ROWS, "sts": 9}
    after = artifacts_of(tmp_path, tiny_recipe(seed_data__rows=rows))
    for artifacts in (before, after):
        fill(artifacts, "topics")
    for task_type in ROWS:
        for artifacts in (before, after):
            fill(artifacts, "task_list", task_type)
        same = before.fingerprint("seed_data", task_type) == after.fingerprint("seed_data", task_type)
        assert same == (task_type != "sts")


def test_other_content_upstream_changes_what_is_below(tmp_path: Path) -> None:
    artifacts = artifacts_of(tmp_path / "a", tiny_recipe())
    fill(artifacts, "topics")
    first = artifacts.fingerprint("task_list", "sts")
    other = artifacts_of(tmp_path / "b", tiny_recipe())
    fill(other, "topics", rows=2)
    assert other.fingerprint("task_list", "sts") != first


def test_a_stage_that_takes_a_part_of_the_tasks_does_not_see_the_others(tmp_path: Path) -> None:
    """New topics leave the alignment stages alone and reach the synthesis at scale."""
    fingerprints = []
    for synthesis in ("s", "other"):
        artifacts = artifacts_of(tmp_path / synthesis, tiny_recipe())
        fill(artifacts, "topics")
        fill(artifacts, "task_list", "sts", rows=len(synthesis), synthesis=synthesis)
        lineage = {"seed_data": artifacts.lineage("seed_data", "sts")["inputs"]}
        fingerprints.append((artifacts.fingerprint("seed_data", "sts"), lineage))
    assert fingerprints[0] == fingerprints[1]


def test_a_plot_does_not_hide_the_metadata_of_its_name(tmp_path: Path) -> None:
    artifacts = artifacts_of(tmp_path, tiny_recipe())
    with artifacts.store.building("f" * 64) as work:
        (work / UNHASHED_DIR).mkdir()
        for name in ("diversity", "funnel"):
            (work / UNHASHED_DIR / f"{name}.png").write_bytes(b"picture")
        made = artifacts.store.seal(
            "topics", "f" * 64, work, partition=None, metadata={"diversity": {"rows": 3}}, lineage={"inputs": {}}
        )
    shown = describe(made, False, 0.0, {})
    assert [record.data for record in shown["diversity"].records] == [{"name": "rows", "value": 3}]
    assert {"diversity_plot", "funnel"} < set(shown)


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotMaterialized, match=r"task_list/sts is not materialized"):
        artifacts = artifacts_of(tmp_path, tiny_recipe())
        fill(artifacts, "topics")
        artifacts.fingerprint("seed_data", "sts")


def test_every_stage_reaches_the_release() -> None:
    graph = {stage.name: stage for stage in ALL_STAGES}
    of_documents = {
        "passages",
        "own_evaluation",
        "examples",
        "reranker_scores",
    }  # their edges are there where a recipe has a corpus, examples, or a reranker to learn from
    assert all("release" in downstream(graph, [n]) for n, s in graph.items() if not s.gathers and n not in of_documents)
    with_documents = build_graph(Shape(corpus=True, own_evaluation=True, examples=True, reranked=True))
    assert all("release" in downstream(with_documents, [name]) for name in of_documents)


@pytest.mark.parametrize("mined", [True, False])
def test_reruns_read_what_the_model_reads_whose_spread_they_measure(mined: bool) -> None:
    graph = build_graph(Shape(mined=mined))
    assert ("mined_negatives" in graph["embedding_model"].inputs) == mined
    assert graph["embedding_reruns"].inputs == graph["embedding_model"].inputs


def test_the_quarantine_is_made_from_every_table_and_nothing_from_it() -> None:
    for source in get_args(DataSource):
        for scored in (True, False):
            graph = build_graph(Shape(source=source, baselines=(), scored=scored))
            names = list(graph)
            tables = [name for name in names if graph[name].kind == "table" and name != "quarantine"]
            assert list(graph["quarantine"].inputs) == tables
            assert downstream(graph, ["quarantine"]) == {"quarantine"}
            for name, stage in graph.items():
                assert all(names.index(above) < names.index(name) for above in stage.inputs)
    artifacts = Artifacts(tiny_recipe(), Store(Path("none")))
    above = {stage.name for stage, _ in artifacts.in_build_order(above="release")}
    assert above == set(artifacts.graph) - {"release", "quarantine"}


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest"])
def test_damaged_artifact_is_quarantined_and_built_again(tmp_path: Path, harm: str) -> None:
    artifacts = artifacts_of(tmp_path, tiny_recipe())
    artifact = fill(artifacts, "topics")
    file = artifact.path / ("artifact.json" if harm == "manifest" else "data.parquet")
    content = file.read_bytes()
    if harm == "remove":
        file.unlink()
    elif harm == "flip":
        file.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    else:
        file.write_bytes(content[:-1] if harm == "truncate" else b"{")
    assert file.name in (integrity_problem(artifact.path) or "")
    fresh = artifacts_of(tmp_path, tiny_recipe())
    assert fresh.fetch("topics") is None
    assert file.name in fresh.store.damage_reports[0]
    assert fill(fresh, "topics").digest == artifact.digest


def released(home: Path) -> Artifact:
    """Something like a release: cards, folders, a manifest of its own, and metadata of every kind."""
    artifacts = artifacts_of(home, tiny_recipe())
    fingerprint = artifacts.fingerprint("topics")
    files = {"model/README.md": "# card\n", "model/model.safetensors": "weights", "data/sts/train.parquet": "rows"}
    with artifacts.store.building(fingerprint) as work:
        for name, text in {**files, "manifest.json": "{}\n", "aside/log": "a\nb\n"}.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)
        metadata = {"loss": float("nan"), "scores": {1: 0.1 + 0.2}, "pair": (1, 2), "name": "π\n"}
        return artifacts.store.seal("release", fingerprint, work, partition=None, metadata=metadata, lineage={})


def test_one_flipped_byte_anywhere_is_named_wherever_the_release_lies(tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "release"
    shutil.copytree(released(tmp_path / "home").path, moved)
    assert list(integrity_problems(moved)) == []
    files = [file for file in moved.rglob("*") if file.is_file()]
    assert len(files) == 6
    for file in files:
        content = file.read_bytes()
        for place in range(len(content)):
            for bit in (0x01, 0x07, 0x20, 0x80):  # 0x07 makes \r of \n, 0x20 changes the case of letters
                file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
                found = list(integrity_problems(moved))
                assert len(found) == 1, (file, place, bit)
                assert found[0].startswith(file.relative_to(moved).as_posix())
        file.write_bytes(content)
    assert integrity_problem(moved) is None


def test_everything_that_is_wrong_with_a_release_is_named(tmp_path: Path) -> None:
    path = released(tmp_path / "home").path
    (path / "model" / "README.md").unlink()
    (path / "manifest.json").write_text("{} \n")
    (path / "data" / "sts" / "train.parquet").write_text("ROWS")
    (path / "model" / "more.py").write_text("")
    assert sorted(integrity_problems(path)) == [
        "data/sts/train.parquet has changed since it was written",
        "manifest.json has 4 bytes instead of 3",
        "model/README.md is missing",
        "model/more.py was not there when it was written",
    ]


def test_unfinished_work_is_never_an_artifact(tmp_path: Path) -> None:
    artifacts = artifacts_of(tmp_path, tiny_recipe())
    fingerprint = artifacts.fingerprint("topics")
    with pytest.raises(RuntimeError), artifacts.store.building(fingerprint) as work:
        (work / "data.parquet").write_text("half")
        raise RuntimeError
    assert artifacts.fetch("topics") is None
    with artifacts.store.building(fingerprint) as work:
        assert (work / "data.parquet").read_text() == "half", "the next attempt resumes"


def test_content_digest_ignores_what_lies_aside(tmp_path: Path) -> None:
    def made(home: Path, note: str) -> str:
        artifacts = artifacts_of(home, tiny_recipe())
        fingerprint = artifacts.fingerprint("topics")
        with artifacts.store.building(fingerprint) as work:
            (work / "data.parquet").write_text("rows")
            (work / "aside").mkdir()
            (work / "aside" / "log").write_text(note)
            artifact = artifacts.store.seal(
                "topics", fingerprint, work, partition=None, metadata={"seconds": note}, lineage={}
            )
        assert "aside/log" in json.loads((artifact.path / MANIFEST_FILE).read_text())["files"]
        return artifact.digest

    assert made(tmp_path / "a", "fast") == made(tmp_path / "b", "slow")


def test_unwritable_home_says_what_to_do(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="SPEED_HOME"):
        Store(blocked / "home").open()
