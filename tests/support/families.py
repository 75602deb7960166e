"""Tiny random models shaped like real families: their kind of tokenizer, special tokens, chat template and configuration.

Weights and vocabularies are drawn here from a few hundred words; templates are our own, in the form that each family is
known for. What is real is the shape: where the start token comes from, which token ends a turn, what is missing.

Belongs here: making such models. Not here: what is done with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma2Config,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModelForCausalLM

CONTEXT = 512
TEXT = [
    "Write one example of a query and of a document that answers it, as a JSON object in one line.",
    'Topic: musical instruments. {"user_query": "how is a violin tuned", "positive_document": "With its pegs."}',
    "Which way is up, and which is down? The left hand holds the bow; the right hand is cold, the left one is hot.",
    "A reader looks for short texts on gardens, rivers, trains and bread, and finds long ones on weather and law.",
    'Answer: {"answer": "down"} {"answer": "right"} {"answer": "cold"} {"answer": "out"} {"answer": "no"}',
    "You are a helpful assistant. Begin with the task, end with the answer, and write nothing else.",
] * 3
_WORDS = Regex(r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
HEADERS = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: "
    "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}{{ date_string }}{% endif %}<|eot_id|>"
    "{% for turn in messages %}<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n{{ turn.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ALWAYS_THINKING = CHATML.replace(
    "{{ turn.content }}<|im_end|>",
    "{% if turn.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ turn.content }}<|im_end|>",
).replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
FORGETS_THOUGHTS = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
HARMONY = (
    "<|start|>system<|message|>You are a helpful assistant.\nCurrent date: {{ strftime_now('%Y-%m-%d') }}<|end|>"
    "{% for turn in messages %}{% if turn.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ turn.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ turn.role }}<|message|>{{ turn.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for turn in messages %}<start_of_turn>{{ 'model' if turn.role == 'assistant' else turn.role }}\n"
    "{{ turn.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A kind of model, and what is to be true of it."""

    name: str
    config: type[PreTrainedConfig]
    special: tuple[str, ...]
    """Special tokens, in the order of their ids."""
    names: dict[str, str]
    """What the tokenizer calls bos, eos, unk and pad; what is missing it does not have."""
    end: str
    """The token that ends an answer."""
    pad: str
    """The token that is to pad in training."""
    asked: str = "{prompt}"
    """The text that is to be read for a prompt."""
    template: str | None = None
    declared: tuple[str, ...] = ()
    """End tokens of the generation configuration; without any there is no such file."""
    starts: bool = False
    """The tokenizer puts its start token before a text."""
    pieces: bool = False
    """Word pieces with bytes to fall back on, instead of bytes."""
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def start(self) -> str | None:
        """The token that every prompt begins with, once."""
        return self.names["bos"] if self.starts else None


_HEADERS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
)
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
_ASKED = _SYSTEM + "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"

LLAMA_3 = Family(
    name="llama-3",
    config=LlamaConfig,
    special=("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"),
    names={"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"},
    end="<|end_of_text|>",
    pad="<|reserved_special_token_0|>",
    declared=("<|end_of_text|>",),
    starts=True,
)
FAMILIES = (
    LLAMA_3,
    Family(
        name="llama-3-instruct",
        config=LlamaConfig,
        special=(*_HEADERS, "<|eot_id|>"),
        names={"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
        end="<|eot_id|>",
        pad="<|finetune_right_pad_id|>",
        asked="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        template=HEADERS,
        declared=("<|end_of_text|>", "<|eot_id|>"),
        starts=True,
    ),
    Family(
        name="mistral",
        config=MistralConfig,
        special=("<unk>", "<s>", "</s>"),
        names={"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
        end="</s>",
        pad="<unk>",
        declared=("</s>",),
        starts=True,
        pieces=True,
        settings=(("sliding_window", 128),),
    ),
    Family(
        name="qwen-2.5-instruct",
        config=Qwen2Config,
        special=_CHATML,
        names={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        end="<|im_end|>",
        pad="<|endoftext|>",
        asked=_ASKED,
        template=CHATML,
        declared=("<|im_end|>", "<|endoftext|>"),
    ),
    Family(
        name="qwen-2.5-base",  # it carries the template, and was never trained to end a turn
        config=Qwen2Config,
        special=(*_CHATML, "<|fim_pad|>"),
        names={"eos": "<|endoftext|>", "pad": "<|endoftext|>"},
        end="<|endoftext|>",
        pad="<|fim_pad|>",
        template=CHATML,
        declared=("<|endoftext|>",),
    ),
    Family(
        name="qwen-3",
        config=Qwen3Config,
        special=_CHATML,
        names={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        end="<|im_end|>",
        pad="<|endoftext|>",
        asked=_ASKED + "<think>\n\n</think>\n\n",
        template=THINKING,
        declared=("<|im_end|>",),
        settings=(("head_dim", 32),),
    ),
    Family(
        name="qwen-3-thinking",  # its template opens a thought by itself, whatever the prompt says
        config=Qwen3Config,
        special=_CHATML,
        names={"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        end="<|im_end|>",
        pad="<|endoftext|>",
        asked=_ASKED + "<think>\n\n</think>\n\n",
        template=ALWAYS_THINKING,
        declared=("<|im_end|>", "<|endoftext|>"),
        settings=(("head_dim", 32),),
    ),
    Family(
        name="gpt-oss",  # answers stand in a channel of their own
        config=LlamaConfig,
        special=(
            "<|startoftext|>",
            "<|endoftext|>",
            "<|return|>",
            "<|start|>",
            "<|end|>",
            "<|message|>",
            "<|channel|>",
            "<|call|>",
        ),
        names={"bos": "<|startoftext|>", "eos": "<|return|>", "pad": "<|endoftext|>"},
        end="<|return|>",
        pad="<|endoftext|>",
        asked="<|start|>system<|message|>You are a helpful assistant.\nCurrent date: 26 Jul 2024<|end|>"
        "<|start|>user<|message|>{prompt}<|end|><|start|>assistant<|channel|>final<|message|>",
        template=HARMONY,
        declared=("<|return|>", "<|endoftext|>", "<|call|>"),
    ),
    Family(
        name="gemma-2-it",
        config=Gemma2Config,
        special=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        names={"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"},
        end="<end_of_turn>",
        pad="<pad>",
        asked="<bos><start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n",
        template=TURNS,
        declared=("<eos>", "<end_of_turn>"),
        starts=True,
        pieces=True,
        settings=(
            ("final_logit_softcapping", 30.0),
            ("attn_logit_softcapping", 50.0),
            ("query_pre_attn_scalar", 32),
            ("sliding_window", 32),
            ("head_dim", 32),
            ("tie_word_embeddings", True),  # as Gemma's; vLLM's class for it knows no other
        ),
    ),
    Family(
        name="smollm-2-instruct",
        config=LlamaConfig,
        special=_CHATML,
        names={"bos": "<|im_start|>", "eos": "<|im_end|>", "unk": "<|endoftext|>", "pad": "<|im_end|>"},
        end="<|im_end|>",
        pad="<|endoftext|>",
        asked=_ASKED,
        template=CHATML,
        settings=(("tie_word_embeddings", True),),
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}


def write_family(family: Family, folder: Path, text: Iterable[str] = TEXT) -> str:
    """Save a model of the family, with weights drawn at random, in `folder`."""
    tokenizer = _tokenizer(family, text)
    tokenizer.save_pretrained(folder)
    ids: Callable[[str], Any] = tokenizer.convert_tokens_to_ids
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
        "bos_token_id": ids(family.names["bos"]) if "bos" in family.names else None,
        "eos_token_id": ids(family.names["eos"]),
        "pad_token_id": None,
    }
    model = AutoModelForCausalLM.from_config(family.config(**sizes | dict(family.settings)), dtype=torch.float32)
    ends = [ids(name) for name in family.declared]
    if ends:
        sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}  # as many a model brings along
        model.generation_config = GenerationConfig(eos_token_id=ends if len(ends) > 1 else ends[0], **sampling)
    model.save_pretrained(folder)
    if not ends:
        (folder / "generation_config.json").unlink(missing_ok=True)
    return str(folder)


def _tokenizer(family: Family, text: Iterable[str]) -> PreTrainedTokenizerFast:
    make = _word_pieces if family.pieces else _bytes
    backend = make(text, family)
    if family.starts:
        start = family.names["bos"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{start} $A",
            pair=f"{start} $A {start} $B",
            special_tokens=[(start, backend.token_to_id(start))],
        )
    names = {f"{kind}_token": name for kind, name in family.names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=family.template, **names)


def _bytes(text: Iterable[str], family: Family) -> Tokenizer:
    """Byte-level BPE that first splits at words, as LLaMA-3, Qwen and SmolLM have it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(family.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(text, trainer)
    if family.template == THINKING:
        backend.add_tokens(["<think>", "</think>"])  # tokens, but none that decoding drops
    return backend


def _word_pieces(text: Iterable[str], family: Family) -> Tokenizer:
    """BPE over texts whose spaces are marks, with single bytes for what it does not know, as Mistral and Gemma have it."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    marks = [normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), *marks] if family.config is MistralConfig else marks  # type: ignore[arg-type]
    )
    strip = [decoders.Strip(" ", 1, 0)] if family.config is MistralConfig else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]  # type: ignore[list-item]
    )
    byte_tokens = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=[*family.special, *byte_tokens], show_progress=False)
    backend.train_from_iterator(text, trainer)
    # Bytes are pieces like any other: only the special tokens are cut out of a text before it is read.
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in family.special]
    return Tokenizer.from_str(json.dumps(state))
