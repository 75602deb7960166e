"""Adapters by their folder: one that changes nothing is an error, before any model is loaded for it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from speed_assets.workers.adapters import modules_without_base, require_effect, require_fit
from speed_assets.workers.generate import require_loaded
from speed_assets.workers.jobs import GenerateHttp, GenerateVllm
from speed_assets.workers.streaming import Stream
from tests.support.tiny_text import write_model


def adapter(folder: Path, **tensors: torch.Tensor) -> str:
    folder.mkdir(exist_ok=True)
    save_file(
        {name.replace("__", "."): tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_an_adapter_that_changes_nothing_is_an_error(tmp_path: Path, dtype: torch.dtype) -> None:
    a, zero = torch.ones(4, 8, dtype=dtype), torch.zeros(8, 4, dtype=dtype)
    one = zero.clone()
    one[3, 2] = 1e-6
    with pytest.raises(ValueError, match=r"changes nothing: all its lora_B weights are 0"):
        require_effect(
            adapter(tmp_path / "0", q__lora_A__weight=a, q__lora_B__weight=zero, v__lora_B__weight=zero.clone())
        )
    with pytest.raises(ValueError, match="changes nothing"):
        require_effect(adapter(tmp_path / "-0", q__lora_A__weight=a, q__lora_B__weight=-zero))
    least = zero.clone()
    least[1, 1] = -torch.finfo(dtype).tiny
    require_effect(adapter(tmp_path / "least", q__lora_B__weight=least))
    require_effect(adapter(tmp_path / "1", q__lora_A__weight=a, q__lora_B__weight=zero, v__lora_B__weight=one))
    require_effect(adapter(tmp_path / "2", q__lora_B__weight=zero, lm_head__weight=a))
    require_effect(str(tmp_path / "none"))


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[1]", b"\x08" + b"\0" * 7 + b"not JSON"])
def test_a_file_that_is_none_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        require_effect(str(tmp_path))


Q = "self_attn.q_proj"
PLAIN = (f"model.layers.0.{Q}.weight", "model.layers.0.mlp.experts.0.gate_proj.weight", "model.embed_tokens.weight")
HEADLESS = ("h.0.attn.c_attn.weight", "wte.weight")
PARTS = (f"language_model.model.layers.0.{Q}.weight", "vision_tower.encoder.layers.0.fc1.weight")


@pytest.mark.parametrize(
    ("base", "module", "fits"),
    [
        (PLAIN, f"model.layers.0.{Q}", True),
        (PLAIN, "model.layers.0.mlp.experts", True),  # one module of transformers, a list in the checkpoint
        (PLAIN, "model.layers.0.mlp.experts.base_layer", True),
        (PLAIN, "lm_head", True),  # shares the weights of the embedding
        (PLAIN, f"more.model.layers.0.{Q}", False),
        (PLAIN, f"model.model.layers.0.{Q}", False),  # wrapped twice
        (PLAIN, f"module.model.layers.0.{Q}", False),  # saved from a DistributedDataParallel
        (PLAIN, f"layers.0.{Q}", False),
        (PLAIN, f"model.layers.1.{Q}", False),  # of a larger model
        (PLAIN, "transformer.h.0.attn.c_attn", False),  # of another family
        (HEADLESS, "transformer.h.0.attn.c_attn", True),
        (HEADLESS, "more.h.0.attn.c_attn", False),
        (PARTS, f"model.language_model.layers.0.{Q}", True),
        (PARTS, f"module.model.language_model.layers.0.{Q}", False),
    ],
)
def test_modules_that_the_base_does_not_have_are_found_by_name(base: tuple[str, ...], module: str, fits: bool) -> None:
    tensors = [f"base_model.model.{module}.lora_{matrix}.weight" for matrix in "AB"]
    kept = ["base_model.model.model.norm.weight", "base_model.model.other.modules_to_save.weight"]
    assert modules_without_base([*tensors, *kept], base) == ([] if fits else [module.replace(".base_layer", "")])


def test_one_name_of_several_that_fits_no_module_is_enough(tmp_path: Path) -> None:
    """vLLM would answer with a part of what was learnt."""
    one = torch.ones(4, 8)
    base = tmp_path / "base"
    base.mkdir()
    save_file({PLAIN[0]: one, f"model.layers.1.{Q}.weight": one.clone()}, base / "model.safetensors")
    good, bad = (
        f"base_model__model__{path}__layers__0__self_attn__q_proj__lora_B__weight" for path in ("model", "more")
    )
    require_fit(adapter(tmp_path / "good", **{good: one}), str(base), None)
    with pytest.raises(
        ValueError, match=r"1 of its modules are none of the base's, such as more\.layers\.0\.self_attn"
    ):
        require_fit(adapter(tmp_path / "bad", **{good: one, bad: one.clone()}), str(base), None)
    index = {"weight_map": {f"model.layers.0.{Q}.weight": "model-00001-of-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    require_fit(str(tmp_path / "good"), str(base), None)
    (base / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="cannot be read as an index"):
        require_fit(str(tmp_path / "good"), str(base), None)


def test_the_base_of_an_adapter_is_looked_up_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "a" * 40
    snapshot = tmp_path / "models--org--base" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    save_file({PLAIN[0]: torch.ones(4, 8)}, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    bad = adapter(tmp_path / "bad", base_model__model__other__lora_B__weight=torch.ones(1))
    with pytest.raises(ValueError, match="does not fit org/base"):
        require_fit(bad, "org/base", revision)
    require_fit(bad, "org/absent", None)  # cannot be read here: left to the engine


@pytest.mark.parametrize("engine", [GenerateVllm, GenerateHttp])
def test_no_engine_that_streams_rows_starts_with_such_an_adapter(tmp_path: Path, engine: type[GenerateVllm]) -> None:
    one = torch.ones(4, 8)
    (tmp_path / "base").mkdir()
    save_file({PLAIN[0]: one}, tmp_path / "base" / "model.safetensors")
    prompts = tmp_path / "prompts.parquet"
    pl.DataFrame({"row_id": ["a"], "candidate": [0], "prompt": ["p"]}).write_parquet(prompts)
    job = engine(
        **{"prompts": str(prompts), "out": str(tmp_path / "out"), "journal": str(tmp_path / "journal")},
        **{"model": str(tmp_path / "base"), "revision": None, "dtype": "float32", "seed": 1, "temperature": 1.0},
        **{"top_p": 1.0, "max_new_tokens": 5, "batch_rows": 1, "max_model_length": None, "schema": None},
        gpu_memory_share=0.5,
        adapter=adapter(tmp_path / "bad", base_model__model__other__lora_B__weight=one),
    )
    with pytest.raises(ValueError, match="vLLM would answer without them"):
        Stream(job, lambda *_: None)


def test_an_adapter_whose_names_fit_no_module_is_an_error(tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(write_model(tmp_path / "base"))
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    folder = str(tmp_path / "adapter")

    def loaded() -> PeftModel:
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), folder)

    require_loaded(loaded(), folder)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(
        {name.replace("base_model.model.", "base_model.model.more."): part for name, part in load_file(file).items()},
        file,
    )
    require_effect(folder)
    with (
        pytest.warns(UserWarning, match="missing adapter keys"),
        pytest.raises(ValueError, match="none of its weights"),
    ):
        require_loaded(loaded(), folder)
