"""A reranker as the worker loads it, and the folders that plan, doctor and worker refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from sentence_transformers import CrossEncoder

from resources.inputs.external_digests import external_digest
from speed_assets.orchestration.doctor import model_probes
from speed_assets.recipe import RecipeError
from speed_assets.workers import rerank
from tests.support.tiny_reranker import distilling, spoil_config, write_reranker

PAIRS = [
    ("who mends old clocks", "a workshop for clocks"),
    ("who mends old clocks", "boats " * 400),
    ("red tea", "tea"),
    ("a", "b"),
]


def silent(_done: int, _total: int, _note: str) -> None:
    pass


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("reranker") / "my-reranker")


def scored(model: Path, folder: Path, pairs: list[tuple[str, str]], **changes: Any) -> list[float]:
    files = {name: str(folder / f"{name}.parquet") for name in ("pairs", "out")}
    pl.DataFrame(pairs, schema=["query", "document"], orient="row").write_parquet(files["pairs"])
    job = {"model": str(model), "max_length": 64, "dtype": "float32", "batch_size": 2, "journal": str(folder / "j")}
    rerank.run({**job, **files, **changes}, silent)
    found: list[float] = pl.read_parquet(files["out"])["score"].to_list()
    return found


# The worker


def test_scores_are_the_raw_logits_of_plain_texts(reranker: Path, tmp_path: Path) -> None:
    found = scored(reranker, tmp_path, PAIRS)
    model = CrossEncoder(str(reranker), max_length=64, device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Sigmoid), "what the library would apply"
    plain = model.predict(PAIRS, activation_fn=torch.nn.Identity(), batch_size=1)
    assert found == pytest.approx([float(score) for score in plain], abs=1e-3)
    assert max(found) - min(found) > 0.5


def test_a_prompt_in_the_models_own_settings_is_not_put_before_texts(reranker: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(reranker), max_length=64, device="cpu", prompts={"rank": "boats boats boats "})
    model.default_prompt_name = "rank"
    model.save_pretrained(str(tmp_path / "prompted"))
    assert CrossEncoder(str(tmp_path / "prompted"), device="cpu").default_prompt_name == "rank"
    found = scored(tmp_path / "prompted", tmp_path, PAIRS)
    assert found == pytest.approx(scored(reranker, tmp_path, PAIRS), abs=1e-3)


def test_a_killed_job_scores_no_finished_pair_again(
    reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank, "SHARD", 2)
    whole = scored(reranker, tmp_path, PAIRS)
    read: list[int] = []
    predict = CrossEncoder.predict
    monkeypatch.setattr(CrossEncoder, "predict", lambda self, pairs, **how: read.append(len(pairs)) or predict(self, pairs, **how))  # fmt: skip
    next(iter(sorted((tmp_path / "j").glob("*.parquet")))).unlink()
    assert scored(reranker, tmp_path, PAIRS) == whole
    assert read == [2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"architectures": ["BertModel"]}, "has no classification head, and its scores would be random"),
        ({"id2label": {"0": "a", "1": "b"}}, "gives 2 numbers for a pair"),
        ({"max_position_embeddings": 32}, "has 32 positions, fewer than reranker_scores.max_length=64"),
    ],
)
def test_a_worker_loads_nothing_but_a_reranker(
    spoil: dict[str, Any], message: str, reranker: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(reranker, tmp_path / "spoilt")
    spoil_config(folder, **spoil)
    with pytest.raises(ValueError, match=message):
        scored(folder, tmp_path, PAIRS)


def test_scores_that_are_no_numbers_end_the_job(
    reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrossEncoder, "predict", lambda *_, **__: torch.tensor([1.0, float("nan")]).numpy())
    with pytest.raises(ValueError, match=r"1 of 2 scores of the reranker are no numbers: set reranker_scores.dtype"):
        scored(reranker, tmp_path, PAIRS[:2])


# What is refused before anything is loaded


def _emptied(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _own_code(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": "mine.Reranker", "path": ""}]))


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda folder: spoil_config(folder, architectures=["BertModel"]), "has no classification head"),
        (lambda folder: spoil_config(folder, architectures=["Qwen3ForCausalLM"]), "is Qwen3ForCausalLM, which has no"),
        (lambda folder: spoil_config(folder, id2label={"0": "a", "1": "b", "2": "c"}), "gives 3 numbers for a pair"),
        (lambda folder: spoil_config(folder, max_position_embeddings=32), "has 32 positions"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no safetensors"),
        (_pickled, "which is not read: it may run code"),
        (_emptied, "model.safetensors is empty"),
        (_pointer, "git lfs pull"),
        (_without_tokenizer, "has no tokenizer"),
        (_own_code, "code of a model is not run"),
    ],
)
def test_plan_and_doctor_refuse_a_folder_that_is_no_reranker(
    plant: Callable[[Path], Any], message: str, reranker: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(reranker, tmp_path / "mine")
    recipe = distilling(tmp_path, "./mine")
    assert external_digest(recipe, "reranker", None)
    (found,) = [one for one in model_probes.models(recipe, tmp_path, network=False) if "mine" in one.line]
    assert found.status == "ok", found
    plant(folder)
    with pytest.raises(RecipeError, match=message) as caught:
        external_digest(recipe, "reranker", None)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("reranker_scores.model mine")
    (found,) = [one for one in model_probes.models(recipe, tmp_path, network=False) if "mine" in one.line]
    assert (found.status, found.line) == ("error", str(caught.value))


def test_a_hubs_model_without_a_head_is_refused_by_what_the_hub_says() -> None:
    model = model_probes.NamedModel("reranker_scores.model", "org/name", None, "float32")
    files = [SimpleNamespace(rfilename="model.safetensors", size=9)]
    info = {"siblings": files, "card_data": None, "gated": False}
    found = [
        model_probes._of_hub(model, SimpleNamespace(**info, config={"architectures": [name]})).status
        for name in ("BertModel", "BertForSequenceClassification")
    ]
    assert found == ["error", "ok"]
    assert model_probes._of_hub(model, SimpleNamespace(**info)).status == "ok"
