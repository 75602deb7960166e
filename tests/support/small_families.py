"""Random models with the shape of the recipes' families, small enough to train in a second: real files, real code.

Those that write end most outputs after some thirty tokens, so that a rehearsal takes seconds; what they write is noise.
`writes` False makes a base for embeddings.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.support.natural_teacher import _OBJECTS, _PLACES, _SUBJECTS, _VERBS

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT = 8192
ENDS = 30
"""Tokens after which an output ends, on average."""
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
}


def _backend(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    text = [" ".join(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES)]
    prompt = Path(__file__).parents[2] / "speed_assets" / "domain" / "prompt_sets" / "full.yaml"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*text, *prompt.read_text().splitlines()], trainer)
    return backend


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast, model: Any, writes: bool) -> str:
    end = tokenizer.eos_token_id
    with torch.no_grad() if writes else nullcontext():
        if not writes:  # vectors that differ by their text
            model.model.embed_tokens.weight.data *= 20
            tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
            return str(folder)
        # One coordinate is the same for every token, so the end token is as likely everywhere.
        model.model.embed_tokens.weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = 0.0
        scale = 32**0.5  # what RMSNorm leaves of a vector that is nearly that coordinate alone
        model.lm_head.weight[end, 0] = torch.log(torch.tensor(len(tokenizer) / ENDS)) / scale
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


def llama3(folder: Path, writes: bool = True) -> str:
    """LLaMA-3: a begin token by template, no pad token."""
    backend = _backend(["<|begin_of_text|>", "<|end_of_text|>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", 0)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **_SHAPE)
    return _save(folder, tokenizer, LlamaForCausalLM(config), writes)


def mistral(folder: Path, writes: bool = True) -> str:
    """Mistral-7B-v0.1: a begin token by template, no pad token."""
    backend = _backend(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    torch.manual_seed(0)
    config = MistralConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **_SHAPE)
    return _save(folder, tokenizer, MistralForCausalLM(config), writes)


def qwen(folder: Path, writes: bool = True) -> str:
    """Qwen2.5: no begin token; the tuned model ends a turn with another token than a text, and has a chat template."""
    backend = _backend(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>" if writes else "<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id, **_SHAPE)
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = [2, 0] if writes else [0]
    model.generation_config.pad_token_id = 0
    return _save(folder, tokenizer, model, writes)


def bert(folder: Path, writes: bool = False) -> str:
    """all-MiniLM-L6-v2: a BERT with mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    backend = _backend(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=512, **{f"{name}_token": token for name, token in names.items()}
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
    )
    plain = folder / "plain"
    tokenizer.save_pretrained(plain)
    BertModel(config).save_pretrained(plain)
    word = Transformer(str(plain), max_seq_length=256)
    SentenceTransformer(modules=[word, Pooling(32, "mean")]).save(str(folder / "model"))
    return str(folder / "model")
