"""An embedding model that knows words and nothing else: real files, opened by the real library, in no time."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from resources.inputs.base_models import MICROWORLD_BASE


def write_embedder(folder: Path) -> str:
    """Save a model of one random vector for each token in `folder`."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(MICROWORLD_BASE / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu").save(str(folder))
    return str(folder)
