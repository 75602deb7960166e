"""Adapters by their folder: one that changes nothing is an error, before any model is loaded for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from speed_assets.workers.adapters import require_effect
from speed_assets.workers.generate import require_loaded
from tests.support.tiny_text import write_model


def adapter(folder: Path, **tensors: torch.Tensor) -> str:
    folder.mkdir(exist_ok=True)
    save_file(
        {name.replace("__", "."): tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_changes_nothing_is_an_error(tmp_path: Path, dtype: torch.dtype) -> None:
    a, zero = torch.ones(4, 8, dtype=dtype), torch.zeros(8, 4, dtype=dtype)
    one = zero.clone()
    one[3, 2] = 1e-6
    with pytest.raises(ValueError, match=r"changes nothing: all its lora_B weights are 0"):
        require_effect(
            adapter(tmp_path / "0", q__lora_A__weight=a, q__lora_B__weight=zero, v__lora_B__weight=zero.clone())
        )
    require_effect(adapter(tmp_path / "1", q__lora_A__weight=a, q__lora_B__weight=zero, v__lora_B__weight=one))
    require_effect(adapter(tmp_path / "2", q__lora_B__weight=zero, lm_head__weight=a))
    require_effect(str(tmp_path / "none"))


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[1]", b"\x08" + b"\0" * 7 + b"not JSON"])
def test_a_file_that_is_none_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        require_effect(str(tmp_path))


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
