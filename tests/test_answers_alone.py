"""Losses on a CPU: positions that are not learnt cost no product with the vocabulary, and every loss is what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import PAIRS, PREFERENCE, losses
from test_training import base as base
from test_workers_text import SFT_ROWS, silent, training_job
from trl.kernels import chunked_logprob as kernels
from trl.trainer import utils as trl_utils

from speed_assets.workers import dpo, sft


@pytest.mark.parametrize("kind", [sft, dpo])
def test_on_a_cpu_only_positions_that_are_learnt_meet_the_vocabulary_and_losses_stay(
    kind: Any, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    apply = trl_utils._ChunkedLogProbFunction.apply

    def count(hidden: torch.Tensor, *given: Any) -> Any:
        scored.append(len(hidden))
        return apply(hidden, *given)

    monkeypatch.setattr(trl_utils._ChunkedLogProbFunction, "apply", count)
    found = {}
    for name, compact in (("answers", True), ("all", False)):
        scored.clear()
        monkeypatch.setattr(trl_utils, "_use_triton", lambda device, compact=compact: compact)
        rows, settings = (SFT_ROWS, {}) if kind is sft else (PAIRS, PREFERENCE)
        params = training_job(base, tmp_path / name, rows, **settings)
        kind.run(params, silent)
        found[name] = sum(scored), losses(params)
    assert found["answers"][0] < 0.8 * found["all"][0]
    assert found["answers"][1] == pytest.approx(found["all"][1], rel=1e-3)


def test_without_a_gpu_trl_takes_such_positions_alone() -> None:
    assert torch.cuda.is_available() or trl_utils._use_triton(torch.device("cpu"))
    assert not kernels._use_triton(torch.device("cpu")), "its kernels ask their own module"
