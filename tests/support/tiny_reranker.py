"""A cross-encoder with weights drawn at random, as real files: opened by the real library in no time.

Belongs here: writing its folder, a recipe that names it. Not here: what becomes of its scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from resources.inputs.base_models import MICROWORLD_BASE
from speed_assets.recipe import Recipe, load_recipe
from tests.support.tiny import tiny_data, write_recipe

POSITIONS = 128


def write_reranker(folder: Path, labels: int = 1) -> Path:
    """Save a small BERT with a head of `labels` outputs, whose scores differ by whole logits between texts."""
    torch.manual_seed(0)
    backend = Tokenizer.from_file(str(MICROWORLD_BASE / "tokenizer.json"))
    # A separator between the two texts, which are of two types, as cross-encoders have them.
    mark = backend.id_to_token(0)
    backend.post_processor = processors.TemplateProcessing(
        single="$A", pair=f"$A {mark} $B:1", special_tokens=[(mark, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=mark, padding_side="right")
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    sizes["num_labels"] = labels
    config = BertConfig(
        vocab_size=backend.get_vocab_size(),
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        initializer_range=0.5,
        **sizes,
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.mul_(4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def spoil_config(folder: Path, **values: Any) -> None:
    """Change what the model's settings say."""
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | values))


def distilling(folder: Path, model: str, base: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A small recipe that learns from a reranker."""
    data = base or tiny_data()
    data["reranker_scores"] = {"model": model, "max_length": 64}
    data["embedding_model"]["distil"] = {"source": "reranker"}
    return load_recipe(write_recipe(folder, data), None, changes)
