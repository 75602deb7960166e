"""Fixtures of the tests of embedding workers: a tokenizer, a tiny decoder, jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from speed_assets.microworld.evaluation import evaluation_sets
from tests.support.embedding_jobs import (
    SETTINGS,
    right_triplets,
)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that has seen the language, as a folder."""
    sets = evaluation_sets(8, 300, 9)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet)
    backend.train_from_iterator([text for texts in sets.all_texts().values() for text in texts], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def decoder(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder with weights drawn at random."""
    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen3Config(vocab_size=1000, num_key_value_heads=2, head_dim=16, **sizes)
    Qwen3Model(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def job(tokenizer: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Parameters of an embed job on 300 right rows, with settings changed by name."""
    right_triplets(300).write_parquet(tmp_path / "triplets.parquet")

    def make(base: dict[str, Any] | None = None, name: str = "model", **settings: Any) -> dict[str, Any]:
        return {
            "base": base or {"kind": "static", "tokenizer": str(tokenizer), "dimensions": 64},
            "settings": {**SETTINGS, **settings},
            "seed": 2**62 + 1,
            "folder": str(tmp_path / "job"),
            "checkpoint_minutes": 10.0,
            "triplets": str(tmp_path / "triplets.parquet"),
            "out": str(tmp_path / name),
            "aside": str(tmp_path / f"{name}-aside"),
        }

    return make
