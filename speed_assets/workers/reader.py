"""An embedding model that reads rows, with the prompts that it was trained with put before their texts.

Belongs here: loading the model and embedding with it. Not here: what the vectors are compared for (`similarities.py`,
`mine_negatives.py`).
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from sentence_transformers import SentenceTransformer

from speed_assets.domain.instructions import instruction_of
from speed_assets.workers.embedding_base import default_prompt, prompted, prompts_of
from speed_assets.workers.jobs import Embedder


def open_reader(job: Embedder) -> tuple[Reader, pl.DataFrame]:
    """The model of a job, and the rows of its table `rows`, each with what an instruction names as its `task`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = SentenceTransformer(
        job.model,
        revision=job.revision,
        device=device,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )
    return Reader(model), _instructed(pl.read_parquet(job.rows))


def _instructed(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what an instruction names as the `task` of each, which of STS is not its topic."""
    named = rows.select("task_type", "task", "row_id").rows()
    return rows.with_columns(task=pl.Series([instruction_of(*of_row) for of_row in named], dtype=pl.String))


class Reader:
    """An embedding model, with the prompts that it was trained with put before texts."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self._prompts = prompts_of(model)
        self._default = default_prompt(model)
        # Prompts are put before texts here alone: `encode`, and mining, would put some there once more.
        model.default_prompt_name, model.prompts = None, {"query": "", "document": ""}

    def shown(self, rows: pl.DataFrame) -> dict[str, list[str]]:
        """The texts of each field as the model reads them in training and in evaluation; a missing one is empty."""
        shown = prompted(rows, self._prompts, self._default)
        return {field: [text or "" for text in texts] for field, texts in shown.items()}

    def alike(self, texts: list[str]) -> list[str]:
        """Texts with the prompt that the model has for comparing texts of one kind (STS), the same for both sides."""
        nothing = {"row_id": "", "task_type": "sts", "task": "", "query": "", "positive": "", "negative": ""}
        (prompt,) = self.shown(_instructed(pl.DataFrame([nothing])))["query"]
        return [f"{prompt}{text}" for text in texts]

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """(texts, width) unit vectors of texts as they are."""
        if not texts:
            return np.zeros((0, self.model.get_embedding_dimension() or 1), dtype=np.float32)
        vectors: np.ndarray = self.model.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vectors
