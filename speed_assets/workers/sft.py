"""Supervised fine-tuning of a causal language model on prompts and completions, with TRL.

Belongs here: the data and the loss of supervised fine-tuning. Not here: what any training does (`training.py`).
"""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer

from speed_assets.workers import fine_tuning
from speed_assets.workers.host import Report


def run(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train on the table `rows` (prompt, completion); the loss is taken on the completion and its end token.

    Parameters and result: see `fine_tuning.fine_tune`.
    """
    return fine_tuning.fine_tune(params, report, ("completion",), _trainer)


def _trainer(_settings: dict[str, Any], arguments: dict[str, Any], **given: Any) -> SFTTrainer:
    config = SFTConfig(**arguments, max_length=None)  # rows fit, and come as token ids with their labels
    return SFTTrainer(args=config, **given)
