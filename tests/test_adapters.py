"""Adapters by their folder: one that changes nothing is an error, before any model is loaded for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from speed_assets.workers.adapters import require_effect


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
