"""The generators: their base, and the trainings of junior, senior and revisor."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from typing_extensions import override

from speed_assets.domain.training_length import held_out_rows, optimizer_steps
from speed_assets.recipe.section import NUMBER_MAX, Endpoint, Positive, Rate, Section, Share


class Generator(Section):
    engine: Literal["transformers", "vllm", "vllm_server"]
    """`vllm` loads the model in a worker process; `vllm_server` sends requests to a server, its own or the one at `endpoint`."""
    base: str
    """`microworld` for the shipped model, a folder, or a hub name (paper: LLaMA-3-8B)."""
    revision: str | None = None
    """Hub revision; set it with a hub name, so that a run can be repeated."""
    endpoint: Endpoint | None = None
    """Base URL of a running OpenAI-compatible server for `vllm_server`; null starts one on loopback for the stage."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """bfloat16 belongs on a GPU: on most CPUs it is two orders slower."""
    batch_rows: Positive
    """Rows generated together, and the unit that a resumed run repeats (vLLM streams, and repeats none). vLLM preempts rows
    that do not fit into its KV cache: a token of LLaMA-3-8B takes 128 KB, so 1,024 rows of 800 tokens need 110 GB, and an
    80 GB GPU has room for 512."""
    structured: bool = False
    """Constrain the decoding to the record's JSON schema (vLLM only)."""
    whitespace_max: Positive | None = 12
    """With `structured`, white-space characters in a row at most, outside of texts: small models are seen to write nothing else
    until their tokens are used up. 12 are a new line and an indent of two levels (ours; vLLM with XGrammar 0.2.4 or later, not a server at
    `endpoint`); null leaves them free."""
    chat: Literal["auto", "never"] = "auto"
    """`auto` asks in the chat template of the base's tokenizer, in training and in generation alike, where there is one and
    the base says that it stops at the end of a turn (base models often carry the template of their instruction-tuned
    twin); `never` asks in plain text (ours)."""

    @model_serializer(mode="wrap")
    @override
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what does not count: recipes of before have the digests that they had."""
        dumped: dict[str, Any] = dump(self)
        if not self.structured:
            dumped.pop("whitespace_max", None)
        return dumped


class Lora(Section):
    """Adapters in place of all weights (LoRA, arXiv 2106.09685)."""

    r: Positive
    """Rank of the adapters' matrices."""
    alpha: Positive
    """Scale of the adapters: their product is multiplied by alpha / r."""
    dropout: Share = 0.0
    """Share of an adapter's inputs that are dropped in training."""


class Training(Section):
    """A fine-tuning with AdamW. Numbers without a source are ours; the recipes name what the paper has."""

    learning_rate: Rate
    """Highest learning rate of AdamW, reached after the warm-up."""
    batch_size: Positive
    """Rows in one optimizer step."""
    epochs: Rate
    """Passes over the training rows; a fraction stops within a pass."""
    warmup_share: Share = 0.0
    """Share of the steps with a rising learning rate; linear decay follows."""
    weight_decay: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 0.0
    """Weight decay of AdamW."""
    max_length: Positive | None = None
    """Maximum tokens of prompt and answer together; longer rows are quarantined, not truncated. null follows from the data: the longest
    prompt, the most tokens that an answer was given, and its end."""
    held_out: Share = 0.05
    """Share of the rows that is held out, chosen by a hash of the row: the training is judged by loss and rewards on them. At
    least 8 rows and at most 256; none where 8 rows would be more than a quarter of all (ours)."""
    lora: Lora | None = None
    """Train LoRA adapters and store them without the base; null trains all weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    micro_batch_size: Positive | None = None
    """Rows on a device at a time; gradients are accumulated over the batch. null is `batch_size`."""

    @model_validator(mode="after")
    def _parts(self) -> Training:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of micro_batch_size={self.micro_batch_size}")
        return self

    def steps(self, rows: int) -> int:
        """Optimizer steps of this training on a table of so many rows, those that are held out among them."""
        return optimizer_steps(rows - held_out_rows(rows, self.held_out), self.batch_size, self.epochs)


class PreferenceTraining(Training):
    """As `Training`, with the loss of DPO (arXiv 2305.18290). Numbers without a source are ours."""

    held_out: Share = 0.1
    """As in every training; larger here, since pairs are few (ours)."""
    beta: Rate
    """beta of DPO, the strength of the reference (paper: 0.1)."""
    nll_weight: Annotated[float, Field(ge=0, le=NUMBER_MAX)]
    """Weight of the chosen answer's negative log-likelihood, added to the DPO loss (our choice: without it small models unlearn the format)."""


class Revisor(Training):
    """As `Training`, on rows of which some change nothing. Numbers without a source are ours."""

    mended_share: Share
    """Share of training rows that mend something; rows of the rarer kind are repeated to reach it (our choice: 0.5, so that the
    revisor learns to leave good rows unchanged as well as to mend bad ones)."""
    repeats_max: Positive = 3
    """Maximum repeats of a row for `mended_share` (ours: a strong teacher mends nearly every draft of a weak junior, and the
    few unchanged ones would be memorized)."""
