"""Supervised fine-tuning of a causal language model on prompts and completions, with TRL.

Belongs here: the data and the loss of supervised fine-tuning. Not here: what any training does (`fine_tuning.py`).
"""

from __future__ import annotations

from typing import Any

from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from speed_assets.workers import fine_tuning
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params
from speed_assets.workers.training_jobs import Sft, Training


def run(params: Params, report: Report) -> dict[str, Any]:
    """Train on the table `rows` (prompt, completion); the loss is taken on the completion and its end token.

    Args:
        params: of a job of kind `Sft`.
        report: gets the progress, in steps.

    Returns:
        See `fine_tuning.fine_tune`.
    """
    return fine_tuning.fine_tune(Sft.read(params), report, ("completion",), _trainer)


def _trainer(_settings: Training, arguments: dict[str, Any], **given: Any) -> SFTTrainer:
    config = SFTConfig(**arguments, max_length=None)  # rows fit, and come as token ids with their labels
    return SFTTrainer(args=config, **given)
