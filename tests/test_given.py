"""The user's own models and triplets in the place of artifacts: the graph, fingerprints, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from huggingface_hub import constants
from hypothesis import given as drawn
from hypothesis import strategies as st

from resources.inputs.document_formats import Unreadable
from resources.inputs.external_digests import external_digest
from resources.inputs.file_heads import table_columns
from resources.inputs.given_models import files_to_copy, local_files
from resources.inputs.safe_models import check_embedder
from speed_assets.orchestration.doctor import input_probes, model_probes
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.study_arms import arms
from speed_assets.recipe import GivenModel, RecipeError, load_recipe, shipped_recipes
from tests.support.given import COLUMNS, a_generator, rows_file, with_given
from tests.support.static_embedder import write_embedder
from tests.support.tiny import tiny_data, tiny_recipe, write_recipe

GENERATORS = ("junior_model", "senior_model", "revisor_model")


# The graph


@pytest.mark.parametrize(
    ("given", "gone", "kept"),
    [
        ({"junior_model"}, {"seed_data"}, {"junior_data", "preference_pairs", "revisor_model", "task_list"}),
        ({"senior_model"}, {"preference_pairs"}, {"seed_data", "junior_model", "revision_data"}),
        (
            {"senior_model", "revisor_model"},
            {"seed_data", "junior_model", "junior_data", "revision_data"},
            {"senior_data"},
        ),
        ({"revisor_model"}, {"revision_data"}, {"junior_data", "preference_pairs"}),
        (
            {"final_triplets"},
            {"topics", "task_list", "seed_data", "senior_data", "revised_data", "row_scores", "row_verdicts"},
            {"embedding_model", "embedding_reruns", "quarantine"},
        ),
        (
            {"embedding_model"},
            {"final_triplets", "topics", "embedding_reruns", "mined_negatives", "quarantine", "senior_data"},
            {"mteb_scores", "release"},
        ),
    ],
)
def test_stages_that_would_only_serve_to_make_it_are_left_out(
    given: set[str], gone: set[str], kept: set[str], tmp_path: Path
) -> None:
    entry = {"final_triplets": {"file": str(rows_file(tmp_path)), "columns": COLUMNS}}
    data = tiny_data()
    data["mteb_scores"] |= {"baselines": []}
    data["checks"]["superior"]["over"] = []
    data["given"] = {name: entry.get(name, {"model": "org/name"}) for name in given}
    graph = load_recipe(write_recipe(tmp_path, data)).graph()
    assert not gone & set(graph)
    assert kept | given | {"release"} <= set(graph)
    assert {name for name, stage in graph.items() if stage.given} == given
    assert not any(graph[name].gpu or graph[name].asks_teacher for name in given)


def test_something_else_may_need_what_a_given_model_does_not(tmp_path: Path) -> None:
    data = tiny_data()
    data["mteb_scores"]["baselines"] = ["seed_data"]
    recipe = with_given(tmp_path, data, junior_model={"model": "org/name"})
    assert "seed_data" in recipe.graph()
    assert recipe.graph()["baseline_models"].inputs == ("seed_data",)


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_without_it_have_nothing_of_it_in_a_fingerprint(name: str) -> None:
    recipe = load_recipe(name)
    assert "given" not in recipe.model_dump()
    assert "given" not in recipe.published()
    for stage in recipe.graph().values():
        assert not stage.given
        assert "given" not in stage.reads
        assert not [external for external in stage.externals if external.startswith("given")]


def test_its_content_is_in_the_fingerprint_of_its_stage_alone(tmp_path: Path) -> None:
    folder = a_generator(tmp_path / "mine")
    recipe = with_given(tmp_path, junior_model={"model": "./mine"})
    assert recipe.given is not None
    assert recipe.given.junior_model is not None
    assert recipe.given.junior_model.model == str(folder), "a relative path starts at the recipe's folder"
    readers = {name for name, stage in recipe.graph().items() if "given:junior_model" in stage.externals}
    assert readers == {"junior_model", "release"}
    junior = recipe.graph()["junior_model"]
    assert set(recipe.part(junior)) == {"generator"}
    assert set(recipe.part(junior)["generator"]) == {"base", "revision"}
    before = external_digest(recipe, "given:junior_model", None)
    (folder / "README.md").write_text("another card")
    (folder / "modeling_mine.py").write_text("other code")
    assert external_digest(recipe, "given:junior_model", None) == before, "what is not copied does not count"
    moved = with_given(tmp_path, junior_model={"model": str(shutil.copytree(folder, tmp_path / "other"))})
    assert external_digest(moved, "given:junior_model", None) == before
    (folder / "generation_config.json").write_text("{}")
    assert external_digest(recipe, "given:junior_model", None) != before
    assert str(tmp_path) not in json.dumps(recipe.published()["given"])
    assert recipe.published()["given"]["junior_model"]["model"] == "mine"
    told = explain_field(recipe, "given.junior_model.model")
    assert told.stale == told.by_content == ["junior_model", "release"]


def test_a_hub_name_is_pinned_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "home"))
    one, other = (
        with_given(tmp_path, senior_model={"model": "org/name", "revision": commit * 40}) for commit in ("a", "b")
    )
    assert external_digest(one, "given:senior_model", None) != external_digest(other, "given:senior_model", None)
    named = model_probes.named_models(one)["given.senior_model"]
    assert (named.field, named.name, named.revision, named.on_hub) == (
        "given.senior_model.model", "org/name", "a" * 40, True,
    )  # fmt: skip


# What is refused


def _damaged(name: str) -> bytes:
    good = b'{"q": "a query", "text": "a text"}\n'
    return {
        "empty": b"",
        "blank": b"\n\n  \n",
        "binary": b"\x7fELF\0\1\2" * 100,
        "latin": b'{"q": "caf\xe9"}\n',
        "no_json": b"query;text\na;b\n",
        "no_object": b"[1]\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "other_columns": b'{"x": 1}\n',
        "second_line": good + b"\x00\x01\n",
        "good": good,
    }[name]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (".jsonl", "empty", "the file is empty"),
        (".jsonl", "blank", "the file is empty"),
        (".jsonl", "binary", "NUL characters"),
        (".jsonl", "latin", "byte 0xe9 at 10 is not utf-8"),
        (".jsonl", "no_json", "line 1 is no JSON"),
        (".jsonl", "no_object", "line 1 is no JSON object"),
        (".jsonl", "pointer", "git lfs pull"),
        (".jsonl", "other_columns", "has no column q and no column text"),
        (".jsonl", "second_line", "NUL characters"),
        (".csv", "empty", "the file is empty"),
        (".csv", "binary", "NUL characters"),
        (".csv", "no_object", "no rows below it"),
        (".csv", "no_json", "has no column q and no column text .it has query;text"),
        (".tsv", "pointer", "git lfs pull"),
        (".parquet", "empty", "the file is empty"),
        (".parquet", "binary", "no complete Parquet file"),
        (".parquet", "pointer", "git lfs pull"),
    ],
)
def test_a_plan_refuses_a_file_that_is_no_table(kind: str, content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / f"own{kind}"
    file.write_bytes(_damaged(content))
    recipe = with_given(tmp_path, final_triplets={"file": str(file), "columns": COLUMNS})
    with pytest.raises(RecipeError, match=message) as caught:
        plan(recipe, tmp_path / "home")
    assert "\n" not in str(caught.value)
    assert "given.final_triplets" in str(caught.value)
    (found,) = input_probes.given_rows(recipe)
    assert (found.status, found.line) == ("error", str(caught.value)), "one probe for both"


def test_a_table_is_looked_into_by_its_first_bytes(tmp_path: Path) -> None:
    """Of gigabytes one megabyte is read, which may end within a character or a line."""
    file = tmp_path / "large.jsonl"
    line = json.dumps({"q": "é" * 300, "text": "ü" * 300}, ensure_ascii=False).encode() + b"\n"
    file.write_bytes(line * 2_000)
    for cut in range(4):
        file.write_bytes(b" " * cut + line * 2_000)
        assert table_columns(file, ".jsonl", "utf-8") is None, "later lines may have other names"
    with file.open("ab") as opened:
        opened.truncate(3 * 10**9)  # a hole, which reads as NUL characters and takes no room
    assert table_columns(file, ".jsonl", "utf-8") is None
    for kind, mark in ((".csv", ","), (".tsv", "\t")):
        text = f'"q"{mark}text\n' if kind == ".csv" else f"q{mark}text\n"
        (tmp_path / "t").write_text(text + f'é{mark}"a\n' * 200_000)
        assert table_columns(tmp_path / "t", kind, "utf-8") == ["q", "text"]
    (tmp_path / "t").write_bytes("q,text\na,b\n".encode("utf-16"))
    assert table_columns(tmp_path / "t", ".csv", "utf-8") == ["q", "text"]
    pl.DataFrame({"q": ["a"], "text": ["b"]}).write_parquet(tmp_path / "p.parquet")
    assert table_columns(tmp_path / "p.parquet", ".parquet", "utf-8") == ["q", "text"]
    pl.DataFrame({"q": [], "text": []}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(Unreadable, match="no rows"):
        table_columns(tmp_path / "p.parquet", ".parquet", "utf-8")


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
@pytest.mark.parametrize("stage", ["junior_model", "embedding_model"])
def test_weights_that_are_empty_or_pointers_are_refused(stage: str, content: bytes, tmp_path: Path) -> None:
    if stage == "embedding_model":
        write_embedder(tmp_path / "mine")
    else:
        a_generator(tmp_path / "mine")
    (weights,) = (tmp_path / "mine").rglob("*.safetensors")
    weights.write_bytes(content)
    refused(stage, tmp_path / "mine", "is empty: copy it again" if not content else "git lfs pull")


def refused(stage: str, folder: Path, message: str, **more: Any) -> None:
    section = GivenModel(model=str(folder), **more)
    with pytest.raises(RecipeError, match=message) as caught:
        local_files(stage, section, tiny_recipe().generator)
    assert "\n" not in str(caught.value)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def causal_faults() -> dict[str, tuple[Callable[[Path], Any], str]]:
    return {
        "missing": (lambda f: shutil.rmtree(f), "there is no folder"),
        "no_config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
        "pickle": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "no safetensors .it has pytorch"),
        "encoder": (lambda f: change(f / "config.json", architectures=["BertModel"]), "is BertModel, and a generator is"),
        "nameless": (lambda f: change(f / "config.json", architectures=None), "names no architecture"),
        "both": (lambda f: change(f / "config.json", is_encoder_decoder=True), "is a causal language model"),
        "no_json": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read as JSON"),
        "a_list": (lambda f: (f / "config.json").write_text("[]"), "is no JSON object"),
        "deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot be read as JSON"),
        "no_tokenizer": (
            lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")], "has no tokenizer",
        ),
        "link": (lambda f: (f / "extra_config.json").symlink_to("/etc/passwd"), "extra_config.json is a link or no file"),
        "pipe": (lambda f: os.mkfifo(f / "extra_config.json"), "extra_config.json is a link or no file"),
        "linked_weights": (
            lambda f: ((f / "model.safetensors").rename(f.parent / "w"), (f / "model.safetensors").symlink_to(f.parent / "w")),
            "links are not followed",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("fault", causal_faults())
def test_folders_of_no_generator_are_refused(fault: str, tmp_path: Path) -> None:
    folder = a_generator(tmp_path / "mine")
    plant, message = causal_faults()[fault]
    plant(folder)
    for stage in GENERATORS:
        refused(stage, folder, message)


def test_bounds_are_kept(tmp_path: Path) -> None:
    refused("junior_model", a_generator(tmp_path / "mine"), r"gigabytes_max is 1e-06: raise it", gigabytes_max=1e-6)


def test_only_weights_settings_and_tokenizer_are_copied(tmp_path: Path) -> None:
    folder = a_generator(tmp_path / "mine")
    change(folder / "config.json", _name_or_path="/home/ann/secret")
    (folder / "trainer_state.json").write_text('{"best_model_checkpoint": "/home/ann/secret"}')
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(b"old")
    files = local_files("junior_model", GivenModel(model=str(folder)), tiny_recipe().generator)
    target = files.copy_to(tmp_path / "out", lambda *_: None)
    assert target.name == "model"
    assert {file.name for file in target.rglob("*")} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((target / "config.json").read_text())["_name_or_path"] == "secret"


def an_adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    values = {"peft_type": "LORA", "base_model_name_or_path": "microworld", "r": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_an_adapter_needs_its_base(tmp_path: Path) -> None:
    files = local_files("junior_model", GivenModel(model=str(an_adapter(tmp_path / "a"))), tiny_recipe().generator)
    assert (files.part, files.names) == ("adapter", ("adapter_config.json", "adapter_model.safetensors"))
    for number, (values, message) in enumerate(
        (
            (
                {"base_model_name_or_path": "org/other"},
                r"is an adapter on 'org/other', and generator.base is microworld",
            ),
            ({"base_model_name_or_path": None}, "a base that it does not name"),
            ({"peft_type": "IA3"}, "only LORA can be used"),
        )
    ):
        refused("senior_model", an_adapter(tmp_path / str(number), **values), message)
    at_a_path = an_adapter(tmp_path / "p", base_model_name_or_path="/home/ann/microworld")
    assert local_files("junior_model", GivenModel(model=str(at_a_path)), tiny_recipe().generator).part == "adapter"


def embedder_faults() -> dict[str, tuple[Callable[[Path], Any], str]]:
    def module(**values: Any) -> Callable[[Path], Any]:
        return lambda f: (f / "modules.json").write_text(
            json.dumps([json.loads((f / "modules.json").read_text())[0] | values])
        )

    return {
        "language_model": (lambda f: (f / "modules.json").unlink(), "has no modules.json"),
        "own_code": (module(type="custom_st.Transformer"), "code of a model is not run"),
        "system": (module(type="os.system"), "code of a model is not run"),
        "no_type": (module(type=None), "code of a model is not run"),
        "outside": (module(path="../../secret"), "none below the model"),
        "absolute": (module(path="/etc"), "none below the model"),
        "no_list": (lambda f: (f / "modules.json").write_text("{}"), "is no list of modules"),
        "another_kind": (
            lambda f: (f / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}'),
            "is a CrossEncoder",
        ),
        "pickle": (
            lambda f: [w.rename(w.with_name("pytorch_model.bin")) for w in f.rglob("*.safetensors")], "no safetensors",
        ),
        "router": (
            lambda f: (f / "router_config.json").write_text('{"types": {"query": "evil.Module"}}'), "'evil.Module'",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("fault", embedder_faults())
def test_folders_of_no_embedding_model_are_refused(fault: str, tmp_path: Path) -> None:
    write_embedder(tmp_path / "mine")
    plant, message = embedder_faults()[fault]
    plant(tmp_path / "mine")
    refused("embedding_model", tmp_path / "mine", message)


@drawn(st.text(max_size=60))
def test_no_name_of_a_module_is_believed(name: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "modules.json").write_text(json.dumps([{"type": name, "path": name}]))
        with pytest.raises(RecipeError) as caught:
            check_embedder(folder, {"modules.json": 1}, "mine")
        assert len(str(caught.value)) < 300


def test_a_hub_that_cannot_be_asked_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    section = GivenModel(model="nobody-here/no-such-model", revision="a" * 40)
    with pytest.raises(RecipeError, match=r"given\.junior_model\.model nobody-here/no-such-model cannot be downloaded"):
        files_to_copy("junior_model", section, tiny_recipe().generator)


def test_what_does_not_fit_is_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    rows = {"file": str(rows_file(tmp_path)), "columns": COLUMNS}
    for given, changes, message in (
        ({"senior_model": {"model": "a/b"}}, {"senior_data.writer": "junior_model"}, "given.senior_model is of no use"),
        ({"embedding_model": {"model": "a/b"}, "final_triplets": rows}, {}, "given.final_triplets is of no use"),
        ({"final_triplets": rows}, {"final_triplets.contamination.similarity": 0.9}, "searched for word by word"),
        ({"final_triplets": {"file": "x.csv", "model": "y"}}, {}, "given.final_triplets.model: unknown field"),
        ({"junior": {"model": "a/b"}}, {}, "given.junior: unknown field"),
        ({"junior_model": {"model": ""}}, {}, "given.junior_model.model"),
    ):
        data = tiny_data()
        data["mteb_scores"] = {"baselines": [], "untrained": True, "bm25": False}
        data["row_scores"]["embedder"] = {"model": "x/y"}
        data["given"] = given
        with pytest.raises(RecipeError, match=message):
            load_recipe(write_recipe(tmp_path, data), None, changes)
    data = tiny_data() | {"given": {"junior_model": {"model": "a/b"}}}
    with pytest.raises(RecipeError, match="a study makes every part of the loop itself"):
        arms(load_recipe(write_recipe(tmp_path, data)), 1)
