"""Tiny embedding bases with random weights, shaped like the families that people start from: their tokenizers, prompts, modules.

Belongs here: writing such a folder. Not here: what is asked of it (`test_embedding_families.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

SENTENCES = [
    "The kettle boils in the old kitchen.",
    "Two boats lie at anchor in the harbour.",
    "She tuned the violin before the concert.",
    "Query: how long does bread need to rise?",
    "Instruct: retrieve passages that answer the query",
    "passage: chess is a game for two players",
]
_DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
GEMMA_PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "Retrieval-query": "task: search result | query: ",
    "Retrieval-document": "title: none | text: ",
    "Retrieval": "task: search result | query: ",
    "STS": "task: sentence similarity | query: ",
    "Classification": "task: classification | query: ",
    "Clustering": "task: clustering | query: ",
}
QWEN_PROMPTS = {
    "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
    "document": "",
}


def _byte_level(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    return backend


def _metaspace(special: list[str]) -> Tokenizer:
    """Byte fallback and `▁` for spaces, as in the tokenizers of Mistral and Gemma."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        SENTENCES * 3, trainers.BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False)
    )
    return backend


def _around(backend: Tokenizer, single: str) -> processors.TemplateProcessing:
    named = [token for token in single.split() if token != "$A"]
    return processors.TemplateProcessing(
        single=single, special_tokens=[(token, backend.token_to_id(token)) for token in named]
    )


def _save(folder: Path, backend: Tokenizer, model: Any, class_name: str | None = None, **tokens: Any) -> str:
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(folder)
    if class_name:  # as the published file names it
        file = folder / "tokenizer_config.json"
        said = json.loads(file.read_text())
        file.write_text(
            json.dumps({**said, "tokenizer_class": class_name, "add_bos_token": True, "add_eos_token": False})
        )
    model.save_pretrained(folder)
    return str(folder)


def bert(folder: Path) -> str:
    """BERT, MiniLM: WordPiece with [CLS] and [SEP], a pad token, mean pooling to be put on top."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        SENTENCES * 3, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    backend.post_processor = _around(backend, "[CLS] $A [SEP]")
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=400, max_position_embeddings=128, **_DECODER))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return _save(folder, backend, model, **names)


def mistral(folder: Path) -> str:
    """Mistral-7B-v0.1: a BOS template, no pad token, no end token in the template."""
    backend = _metaspace(["<unk>", "<s>", "</s>"])
    backend.post_processor = _around(backend, "<s> $A")
    torch.manual_seed(0)
    model = MistralModel(MistralConfig(vocab_size=500, num_key_value_heads=1, sliding_window=8, **_DECODER))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _save(folder, backend, model, "LlamaTokenizer", **names)


def llama3(folder: Path) -> str:
    """LLaMA-3: byte-level, a sequence of processors that ends in a BOS template, no pad token."""
    backend = _byte_level(["<|begin_of_text|>", "<|end_of_text|>"])
    template = _around(backend, "<|begin_of_text|> $A")
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(vocab_size=500, num_key_value_heads=1, **_DECODER))
    return _save(folder, backend, model, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def qwen3_embedding(folder: Path) -> str:
    """Qwen3-Embedding: a SentenceTransformer folder, last token, padded on the left. Its tokenizer closes texts with
    <|endoftext|>, which pads as well and is not its end token.
    """
    plain = folder / "plain"
    backend = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.post_processor = _around(backend, "$A <|endoftext|>")
    torch.manual_seed(0)
    model = Qwen3Model(Qwen3Config(vocab_size=500, num_key_value_heads=1, head_dim=16, **_DECODER))
    _save(plain, backend, model, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left")
    modules = [Transformer(str(plain), max_seq_length=128), Pooling(32, "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, prompts=QWEN_PROMPTS, device="cpu").save(
        str(folder / "model"), create_model_card=False
    )
    return str(folder / "model")


def e5(folder: Path) -> str:
    """E5 and BGE: BERT with `query: ` before queries and `passage: ` before passages."""
    modules = [Transformer(bert(folder / "plain"), max_seq_length=32), Pooling(32, "mean"), Normalize()]
    prompts = {"query": "query: ", "passage": "passage: "}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(
        str(folder / "model"), create_model_card=False
    )
    return str(folder / "model")


def embedding_gemma(folder: Path) -> str:
    """EmbeddingGemma: attention in both directions, BOS and EOS, prompts by type of task, Dense after pooling."""
    plain = folder / "plain"
    backend = _metaspace(["<pad>", "<eos>", "<bos>", "<unk>"])
    backend.post_processor = _around(backend, "<bos> $A <eos>")
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=500, num_key_value_heads=1, head_dim=16, use_bidirectional_attention=True, pad_token_id=0,
        sliding_window=16, layer_types=["full_attention", "full_attention"], **_DECODER,
    )  # fmt: skip
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    _save(plain, backend, Gemma3TextModel(config), **names)
    modules = [
        Transformer(str(plain), max_seq_length=128),
        Pooling(32, "mean"),
        Dense(32, 48, bias=False, activation_function=torch.nn.Identity()),
        Dense(48, 32, bias=False, activation_function=torch.nn.Identity()),
        Normalize(),
    ]
    SentenceTransformer(modules=modules, prompts=GEMMA_PROMPTS, device="cpu").save(
        str(folder / "model"), create_model_card=False
    )
    return str(folder / "model")
