"""Documents of a data set that the library `datasets` loads: from a folder, and from a hub by name and commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from huggingface_hub import constants
from typing_extensions import override

from resources.inputs import base_models, hub_datasets, hub_revisions
from resources.inputs.external_digests import external_digest
from resources.releases.cards import _dataset as of_card
from speed_assets.orchestration import using_releases
from speed_assets.orchestration.doctor import corpus_probes
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Corpus, Recipe, RecipeError, parse_recipe
from speed_assets.workers import load_dataset
from speed_assets.workers.jobs import LoadDataset
from tests.support import doctor_cases
from tests.support.reading_teacher import note, write_corpus
from tests.test_corpus_loop import recipe_of
from tests.test_grounded_rows import Here, passages_of

URL = "http://127.0.0.1:1/v1"
COMMIT = "c" * 40


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"nr": f"n{n}", "head": f"Note {n}", "body": note(n), "views": n, **more} for n in range(count)]


def write_rows(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def recipe_with(root: Path, dataset: dict[str, Any], **corpus: Any) -> Recipe:
    data = recipe_of(URL, root).model_dump(mode="json")
    columns = {"text": ["body"], "id": "nr", "title": "head"}
    data["corpus"] |= {"path": None, "dataset": dataset, "columns": columns, **corpus}
    return parse_recipe(data, root / "recipe.yaml")


def test_a_corpus_has_one_source() -> None:
    with pytest.raises(ValueError, match="no documents: give `path`"):
        Corpus.model_validate({})
    with pytest.raises(ValueError, match="`path` and `dataset` are both given"):
        Corpus.model_validate({"path": "docs", "dataset": {"name": "owner/name"}})
    assert "dataset" not in Corpus(path="docs").model_dump(), "recipes from before keep their fingerprints"
    assert Corpus.model_validate({"dataset": {"name": "owner/name"}}).dataset is not None


def test_a_recipe_names_a_hub_or_a_folder_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name, meant in (("rows", tmp_path / "rows"), ("./gone", tmp_path / "gone"), ("owner/name", "owner/name")):
        found = recipe_with(tmp_path, {"name": name}).corpus
        assert found is not None
        assert found.dataset is not None
        assert found.dataset.name == str(meant)


def test_a_recipe_that_extends_another_puts_a_data_set_in_the_place_of_its_path(tmp_path: Path) -> None:
    data = {"extends": "own_corpus", "name": "other", "corpus": {"path": None, "dataset": {"name": "owner/name"}}}
    found = parse_recipe(data, tmp_path / "recipe.yaml").corpus
    assert found is not None
    assert (found.path, found.dataset and found.dataset.name) == (None, "owner/name")


def digest_of(root: Path, **dataset: Any) -> str:
    return external_digest(recipe_with(root, dataset), "corpus_files", None)


def test_a_data_set_of_a_hub_is_pinned_at_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def hub(name: str, revision: str | None) -> str:
        asked.append((name, revision))
        return COMMIT

    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_revisions, "query_hub", hub)
    recipe = recipe_with(tmp_path, {"name": "owner/name"})
    before = digest_of(tmp_path, name="owner/name")
    assert base_models.pin_revisions(recipe)
    assert not base_models.pin_revisions(recipe), "the second time it is known"
    assert asked == [("datasets/owner/name", None)]
    assert json.loads((tmp_path / "home" / "revisions.json").read_text()) == {"datasets/owner/name@default": COMMIT}
    pinned = digest_of(tmp_path, name="owner/name")
    assert pinned == digest_of(tmp_path, name="owner/name", revision=COMMIT)
    others = ({"config": "x"}, {"split": "test"}, {"revision": "d" * 40}, {"name": "owner/other"})
    found = {before, pinned, *(digest_of(tmp_path, **{"name": "owner/name", **other}) for other in others)}
    assert len(found) == 6


def test_the_hub_is_asked_for_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = doctor_cases.Case(tmp_path, monkeypatch)
    case.hub({"/api/datasets/owner/name/revision/main": (200, {"id": "owner/name", "sha": COMMIT}, {})})
    try:
        assert hub_revisions.query_hub("datasets/owner/name", "main") == COMMIT
    finally:
        for server in case.closing:
            server.shutdown()
            server.server_close()


def test_without_a_hub_a_run_ends_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hub(name: str, revision: str | None) -> str:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_revisions, "query_hub", hub)
    with pytest.raises(RecipeError, match=r"datasets/owner/name, revision default: .*Network is unreachable"):
        base_models.pin_revisions(recipe_with(tmp_path, {"name": "owner/name"}))


def test_a_folder_goes_by_its_files(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows" / "train.jsonl", rows(2))
    before = digest_of(tmp_path, name="rows")
    write_rows(tmp_path / "other" / "rows" / "train.jsonl", rows(2))
    assert digest_of(tmp_path / "other", name="rows") == before, "wherever it is"
    real = file.rename(tmp_path / "blob")
    file.symlink_to(real)
    assert digest_of(tmp_path, name="rows") == before, "as a hub's cache has its files"
    write_rows(real, rows(3))
    assert digest_of(tmp_path, name="rows") != before
    real.unlink()
    with pytest.raises(RecipeError, match=r"train\.jsonl is a link to a folder or to nothing"):
        digest_of(tmp_path, name="rows")


def test_a_folder_that_is_missing_is_an_error_of_plan_and_doctor(tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, {"name": "./rows"})
    with pytest.raises(RecipeError, match=r"corpus\.dataset\.name: there is no folder"):
        plan(recipe, tmp_path / "home")
    (found,) = corpus_probes.corpus(recipe)
    assert (found.status, found.mend) == ("error", "corpus.dataset.name")
    (tmp_path / "rows").write_text("x")
    with pytest.raises(RecipeError, match=r"is a file: name its folder, or give the file as corpus\.path"):
        digest_of(tmp_path, name="./rows")


def test_the_doctor_looks_for_the_columns_of_a_folder(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", rows(3))
    (tmp_path / "rows" / "README.md").write_text("# A data set\n\nIts card is no document.\n")
    (found,) = corpus_probes.corpus(recipe_with(tmp_path, {"name": "rows"}))
    assert (found.status, found.line) == ("ok", "1 files; of 3 documents and files tried 0 cannot be read")
    (found,) = corpus_probes.corpus(recipe_with(tmp_path, {"name": "rows"}, columns={"text": ["abstract"]}))
    assert (found.status, found.mend) == ("error", "corpus.dataset, corpus.columns")
    assert "no column abstract: it has nr, head, body, views" in found.line
    _, found = corpus_probes.corpus(recipe_with(tmp_path, {"name": "rows"}, forget=["n99"]))
    assert found.mend == "corpus.forget, unless the document is gone from corpus.dataset"


CARD = {
    "dataset_info": {"features": [{"name": "body"}, {"name": "nr"}], "splits": [{"name": "train"}]},
    "license": "mit",
}


@pytest.mark.parametrize(
    ("dataset", "columns", "status", "line"),
    [
        ({}, ["body"], "ok", "licence mit"),
        ({}, ["text"], "error", "no column text: it has body, nr"),
        ({"split": "test"}, ["body"], "error", "no split test: it has train"),
        ({"split": "train[:5]"}, ["body"], "ok", "licence mit"),
        ({"revision": "v2"}, ["body"], "error", "the hub has no data set|no revision v2"),
    ],
)
def test_the_doctor_asks_the_hub(
    dataset: dict[str, Any], columns: list[str], status: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_with(tmp_path, {"name": "owner/name", **dataset}, columns={"text": columns})
    case = doctor_cases.Case(tmp_path, monkeypatch)
    reply = {"id": "owner/name", "sha": COMMIT, "cardData": CARD, "gated": False}
    case.hub({"/api/datasets/owner/name": (200, reply, {})})
    try:
        (found,) = corpus_probes.corpus(recipe, network=True)
        assert found.status == status
        assert any(words in found.line for words in line.split("|"))
        (found,) = corpus_probes.corpus(recipe)
        assert found.line == "owner/name: a run loads this data set"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        (found,) = corpus_probes.corpus(recipe, network=True)
        assert found.status == "warning"
    finally:
        for server in case.closing:
            server.shutdown()
            server.server_close()


def test_passages_of_a_folder(tmp_path: Path) -> None:
    """Tables name the data set, whatever file held a row; cells that are no text are in the quarantine."""
    broken: list[dict[str, Any]] = [
        {"nr": "list", "head": "Parts", "body": [note(50), note(51)]},
        {"nr": "object", "body": {"a": 1}},
    ]
    write_rows(tmp_path / "rows" / "train.jsonl", [*rows(20), *broken, {"nr": "none", "body": None}])
    write_rows(tmp_path / "rows" / "test.jsonl", rows(3, nr="test"))
    recipe = recipe_with(tmp_path, {"name": "rows"}, forget=["n3"], encoding="latin-1")
    run = passages_of(recipe, tmp_path / "home")
    table, aside = run.tables["data"], run.tables["quarantine"]
    assert set(table["file"]) == {"rows"}
    assert set(table["document_id"]) == {f"n{n}" for n in range(20) if n != 3} | {"list"}
    assert "Note 5" in table.filter(document_id="n5")["title"][0]
    why = {row["row_id"].partition("#")[0]: (row["reason"], row["detail"]) for row in aside.iter_rows(named=True)}
    assert why["n3"][0] == "forgotten"
    assert why["object"] == ("unreadable", "rows: row 22: column body holds a JSON object, and a text is a string or a list "
                             "of strings: name another column in corpus.columns.text")  # fmt: skip
    assert why["none"][0] == "no_text"


def test_a_folder_of_parquet_files_gives_what_its_rows_as_a_file_give(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    pl.DataFrame(rows(20)).write_parquet(tmp_path / "rows" / "train-0.parquet")
    one = passages_of(recipe_with(tmp_path, {"name": "rows"}), tmp_path / "one").tables["data"]
    file = str(tmp_path / "rows" / "train-0.parquet")
    data = recipe_with(tmp_path, {"name": "rows"}).model_dump(mode="json")
    data["corpus"] |= {"path": file, "dataset": None}
    two = passages_of(Recipe.model_validate(data), tmp_path / "two").tables["data"]
    assert one.drop("file").equals(two.drop("file"))


def test_what_is_not_in_a_data_set_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", rows(3))
    for dataset, corpus, words in (
        ({"split": "test"}, {}, r'corpus\.dataset: rows, split test: .*Unknown split "test"'),
        ({"config": "x"}, {}, "BuilderConfig 'x' not found"),
        ({}, {"columns": {"text": ["abstract"]}}, "no column abstract: it has nr, head, body, views"),
        ({}, {"documents_max": 2}, "rows holds more than 2 documents: raise corpus.documents_max"),
    ):
        with pytest.raises(RecipeError, match=words):
            passages_of(recipe_with(tmp_path, {"name": "rows", **dataset}, **corpus), tmp_path / "home")
    (tmp_path / "rows" / "rows.py").write_text("raise SystemExit")
    with pytest.raises(RecipeError, match="scripts are no longer supported"):
        passages_of(recipe_with(tmp_path, {"name": "rows"}), tmp_path / "home")


def test_another_commit_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the library takes whatever commit it has prepared before."""
    asked: list[tuple[Any, ...]] = []

    class Builder:
        hash = "d" * 40
        config: Any = None

    def builder(name: str, config: str | None, **of_hub: Any) -> Any:
        asked.append((name, config, of_hub))
        return Builder

    monkeypatch.setattr(load_dataset, "load_dataset_builder", builder)
    job = LoadDataset(
        folder=str(tmp_path), name="a/b", commit=COMMIT, split="train", needed=("text",), wanted=(), out="out.parquet"
    )
    found = load_dataset.run(job, lambda done, total, note: None)  # type: ignore[arg-type]
    assert COMMIT in found["refused"]
    assert asked == [("hf://datasets/a/b", None, {"revision": COMMIT, "cache_dir": None})]


@pytest.mark.parametrize("named", ["../secret.jsonl", "ABSOLUTE"])
def test_a_card_reaches_no_file_outside_of_its_data_set(named: str, tmp_path: Path) -> None:
    secret = write_rows(tmp_path / "secret.jsonl", rows(20))
    write_rows(tmp_path / "rows" / "train.jsonl", rows(20))
    card = {"configs": [{"config_name": "default", "data_files": named.replace("ABSOLUTE", str(secret))}]}
    (tmp_path / "rows" / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    with pytest.raises(RecipeError, match=r"its card names .*secret\.jsonl, which is no file of the data set"):
        passages_of(recipe_with(tmp_path, {"name": "rows"}), tmp_path / "home")


def test_files_of_a_hub_are_those_of_the_commit() -> None:
    job = LoadDataset(name="a/b", commit=COMMIT, split="train", needed=("text",), wanted=(), out="out.parquet")
    own = f"hf://datasets/a/b@{COMMIT}/"
    for file, of_it in (
        (f"{own}x.parquet", True),
        ("hf://datasets/c/d@main/x.parquet", False),
        ("/etc/x.csv", False),
        (f"{own}../x.csv", False),
    ):
        assert load_dataset._of_data_set(file, job) is of_it, file


def test_a_folder_leaves_no_copy_but_the_table(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", rows(3))
    job = LoadDataset(
        folder=str(tmp_path / "job"),
        name=str(tmp_path / "rows"),
        split="train[:2]",
        needed=("body",),
        wanted=("nr", "date"),
        out=str(tmp_path / "job" / "out.parquet"),
    )
    (tmp_path / "job").mkdir()
    found = load_dataset.run(job, lambda done, total, note: None)  # type: ignore[arg-type]
    table = pl.read_parquet(found["file"])
    assert (table.columns, table.height) == (["body", "nr"], 2)
    assert [file.name for file in (tmp_path / "job").iterdir()] == ["out.parquet"]


def test_documents_are_cut_for_a_search_as_those_of_the_data_set_were(tmp_path: Path) -> None:
    stated = {"path": None, "dataset": {"name": "rows"}, "columns": {"text": ["body"], "id": "nr"}, "tokens_max": 64}

    class Release:
        path = tmp_path / "release"

        def json(self, _name: str) -> dict[str, Any]:
            return {"corpus": stated}

    class Runner(Here):
        @override
        def run(
            self, kind: str, params: dict[str, Any], folder: Path, progress: Any = lambda *_: None
        ) -> dict[str, Any]:
            return super().run(kind, params, folder, progress)

    for folder in (tmp_path / "home", Release.path):
        folder.mkdir()
    (Release.path / "model").symlink_to(base_models.MICROWORLD_BASE)
    file = write_rows(tmp_path / "rows.jsonl", rows(2))
    table = using_releases._cut(Runner(), Release(), file, tmp_path / "home")  # type: ignore[arg-type]
    assert set(table["document_id"]) == {"n0", "n1"}


def test_explain_knows_what_another_data_set_makes_stale(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", rows(3))
    write_corpus(tmp_path / "corpus", 2)
    for recipe in (recipe_with(tmp_path, {"name": "rows"}), recipe_of(URL, tmp_path)):
        for field in ("corpus.dataset.name", "corpus.dataset", "corpus.path"):
            assert {"passages", "release"} <= set(explain_field(recipe, field).stale), field
    told = explain_field(recipe_with(tmp_path, {"name": "rows"}), "corpus.dataset.split")
    assert {"passages", "release"} <= set(told.stale)


def test_a_release_states_name_and_commit_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows" / "train.jsonl", rows(20))
    recipe = recipe_with(tmp_path, {"name": "rows"})
    stated = json.dumps(recipe.part(recipe.graph()["release"]))
    assert str(tmp_path / "rows") not in stated
    assert '"dataset": {"name": "rows", "config": null, "split": "train", "revision": null}' in stated
    assert "dataset" not in recipe.part(recipe.graph()["passages"])["corpus"]
    monkeypatch.setattr(hub_datasets, "resolve_commit", lambda name, revision: COMMIT)
    of_hub = {"name": "owner/name", "config": None, "split": "train", "revision": COMMIT}
    section = Corpus.model_validate({"dataset": {"name": "owner/name"}}).dataset
    assert section is not None
    assert hub_datasets.resolve_dataset(section) == ("owner/name", COMMIT)
    text = "\n".join(of_card({"dataset": of_hub}))
    assert f"| `owner/name` | none | `train` | `{COMMIT}` |" in text
    assert of_card({}) == []
