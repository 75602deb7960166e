"""Direct preference optimisation of a causal language model on pairs of answers, with TRL.

Belongs here: the data and the loss of preference training. Not here: what any training does (`fine_tuning.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from typing_extensions import override

from speed_assets.workers import fine_tuning
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Params
from speed_assets.workers.training_jobs import Dpo, Preference, Training

REFERENCE = "ref"
"""TRL's name for the frozen copy of an adapter that training starts from."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Train on the table `rows` (prompt, chosen, rejected) with DPO (arXiv 2305.18290).

    The reference is the model that training starts from: with an adapter, the base with that adapter. The loss is
    DPO's plus `nll_weight` times the mean negative log-likelihood of the chosen answers' tokens.

    Args:
        params: of a job of kind `Dpo`.
        report: gets the progress, in steps.

    Returns:
        See `fine_tuning.fine_tune`.
    """
    return fine_tuning.fine_tune(Dpo.read(params), report, ("chosen", "rejected"), preference_trainer)


def preference_trainer(settings: Training, arguments: dict[str, Any], **given: Any) -> DPOTrainer:
    """The trainer, with the reference's log-probabilities in its data set: one pass instead of a second model."""
    assert isinstance(settings, Preference)
    config = DPOConfig(
        **arguments,
        max_length=None,  # rows fit: none is cut
        beta=settings.beta,
        loss_type=["sigmoid", "sft"] if settings.nll_weight else ["sigmoid"],
        loss_weights=[1.0, settings.nll_weight] if settings.nll_weight else [1.0],
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=4 * arguments["per_device_train_batch_size"],
    )
    trainer = _Trainer(args=config, **given)
    model: Any = trainer.model
    if REFERENCE in getattr(model, "peft_config", {}):
        model.delete_adapter(REFERENCE)  # its work is done
    return trainer


class _Trainer(DPOTrainer):
    """Rows come as token ids. Means are taken over the batch, however many micro-batches and processes it is split over.

    TRL takes them over each micro-batch, so that a token in a micro-batch of short answers weighs more.
    """

    @override
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    @override
    def get_batch_samples(self, *args: Any) -> tuple[list[Any], Any]:
        parts, items = super().get_batch_samples(*args)
        counts = self.accelerator.gather(torch.stack([_counts(part) for part in parts]).sum(0)[None]).sum(0)
        self._mean_counts = counts / (len(parts) * self.accelerator.num_processes)
        return parts, items

    @override
    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        shares = (_counts(inputs) / self._mean_counts).tolist()
        arguments: Any = self.args
        weights = arguments.loss_weights
        self.loss_weights = [w * share for w, share in zip(weights, shares, strict=False)]
        return super()._compute_loss(model, inputs, return_outputs)  # type: ignore[no-untyped-call]


def _counts(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Pairs, and tokens of their chosen answers: what the two terms of the loss are means over."""
    chosen, _ = inputs["completion_mask"][:, 1:].chunk(2)
    return torch.stack([torch.tensor(len(chosen), device=chosen.device), chosen.sum()]).double()
