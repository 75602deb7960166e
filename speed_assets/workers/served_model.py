"""An embedding model as its users call it: texts as queries or documents, with the prompts that it was trained with.

Belongs here: loading it, prompts by side, vectors as the model gives them. Not here: HTTP (`serve_embeddings.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from sentence_transformers import SentenceTransformer

from speed_assets.domain.grounded import WORDINGS
from speed_assets.workers.reader import Reader

Side = Literal["query", "document"]
_FIELDS: dict[Side, str] = {"query": "query", "document": "positive"}


class ServedModel:
    """A model that embeds texts of either side.

    Args:
        folder: SentenceTransformer folder, or a name on a hub.
        revision: commit on the hub.
    """

    def __init__(self, folder: str, revision: str | None = None) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = SentenceTransformer(
            folder,
            revision=revision,
            device=device,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        self._reader = Reader(self.model)
        self.width = int(self.model.get_embedding_dimension() or 0)

    def shown(self, texts: Sequence[str], side: Side, task: str | None = None) -> list[str]:
        """The texts as the model reads them: with the prompt of their side.

        Args:
            texts: without prompts.
            side: which prompt they get.
            task: what the instruction of a model names that has one; None takes that of questions.
        """
        if not texts:
            return []
        named = task or WORDINGS["question"].task
        nothing = dict.fromkeys(("query", "positive", "negative"), "")
        rows = [{**nothing, "task_type": "retrieval", "task": named, _FIELDS[side]: text} for text in texts]
        return self._reader.shown(pl.DataFrame(rows))[_FIELDS[side]]

    def encode(self, shown: Sequence[str], batch_size: int) -> np.ndarray:
        """(texts, width) float32 vectors of texts as they are, of the length that the model gives them."""
        if not shown:
            return np.zeros((0, self.width), dtype=np.float32)
        vectors: np.ndarray = self.model.encode(
            list(shown), batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors.astype(np.float32, copy=False)

    def tokens(self, shown: Sequence[str]) -> int:
        """Tokens that the model reads of these texts, cut ones counted as cut."""
        tokenizer: Any = self.model.tokenizer
        if hasattr(tokenizer, "encode_batch"):
            return sum(sum(one.attention_mask) for one in tokenizer.encode_batch(list(shown)))
        read = tokenizer(list(shown), truncation=True, max_length=self.model.max_seq_length)
        return sum(map(len, read["input_ids"]))
