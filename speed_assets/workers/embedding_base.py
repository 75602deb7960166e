"""The model that an embedding training starts from: a table of vectors, a language model, or a finished embedding model.

A language model gets what an embedding model needs: pooling, a pad token where it has none, and with `last` pooling an end
token that closes every text, cut ones too. A folder or hub name that is a SentenceTransformer keeps its modules and prompts.

Belongs here: loading it, its tokens, its prompts. Not here: training (`embed.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from sentence_transformers.util.file_io import is_sentence_transformer_model
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from speed_assets.domain.instructions import SYMMETRIC, trained_prompts, with_document_prompt
from speed_assets.domain.task_types import TRIPLET_FIELDS
from speed_assets.workers.training_jobs import Base, EmbeddingSettings, StaticBase

INSTRUCTION = "instruction"
"""Name of the saved prompt that still holds {task}: whoever embeds fills it in."""
_PROBE = "a"
"""A text of one word: what a tokenizer puts around it is what it puts around every text."""


def base_model(base: Base, settings: EmbeddingSettings, seed: int) -> SentenceTransformer:
    """The base, ready to be trained under the recipe's section `embedding_model`.

    Raises:
        ValueError: the tokenizer has no token that could pad, or does not close texts with its end token; or `max_length`
            is more than the model has positions.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(base, StaticBase):
        tokenizer = Tokenizer.from_file(str(Path(base.tokenizer) / "tokenizer.json"))
        tokenizer.enable_truncation(settings.max_length)
        draws = torch.Generator().manual_seed(seed)
        vectors = torch.randn(tokenizer.get_vocab_size(), base.dimensions, generator=draws)
        model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device=device)
        return _prompted(model, settings.instruction)

    name, revision = base.name, base.revision
    model = SentenceTransformer(
        name,
        revision=revision,
        device=device,
        trust_remote_code=False,
        # Small updates vanish in half precision: weights that are trained are float32, then saved in `dtype`.
        model_kwargs={
            "use_safetensors": True,
            "dtype": getattr(torch, settings.dtype if settings.lora else "float32"),
        },
    )
    _fit(model, settings.max_length)
    if isinstance(model.tokenizer, PreTrainedTokenizerBase):
        with_pad_token(model.tokenizer)
    if not is_sentence_transformer_model(name, revision=revision):  # a plain language model: it has no pooling yet
        last = settings.pooling == "last"
        transformer: Any = model[0]
        model[1] = Pooling(transformer.get_embedding_dimension(), "lasttoken" if last else "mean")
        if last:
            with_end_token(model.tokenizer)
    return _prompted(model, settings.instruction)


def _fit(model: SentenceTransformer, max_length: int) -> None:
    positions = getattr(getattr(model[0], "config", None), "max_position_embeddings", None)
    if positions and 0 < positions < max_length:
        raise ValueError(
            f"embedding_model.max_length={max_length} is more than the {positions} positions of the base: lower it"
        )
    if not isinstance(model[0], StaticEmbedding):  # its vector of a text is a mean over all its tokens
        model.max_seq_length = max_length


def with_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer that has no pad token its end token as one.

    The attention mask distinguishes pads from end tokens: pads are attended by nothing, and pooling takes no pad. The weights of
    the token are not touched, since `config.pad_token_id` stays what it was.

    Raises:
        ValueError: there is no end token either.
    """
    if tokenizer.pad_token is not None:
        return
    token = tokenizer.eos_token or tokenizer.unk_token
    if token is None:
        raise ValueError(
            "the embedding base's tokenizer has neither a pad nor an end token, so texts cannot be put into a batch: set "
            "`pad_token` in its tokenizer_config.json, or take another base"
        )
    tokenizer.pad_token = token


def with_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let every text end with the end token, whose state `last` pooling takes (paper section 3.4).

    A tokenizer that closes texts with a special token by itself (BERT, Qwen3-Embedding) is left as it is. Otherwise one
    template takes the place of the present one: what that puts before a text (a BOS token), the text, the end token. Two
    processors one after the other do not do: the first yields two pieces, which the second takes for a pair.

    Raises:
        ValueError: there is no end token, or texts do not end with it all the same.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError("embedding_model.pooling=last needs a fast tokenizer (tokenizer.json): take another base")
    before, after = _around(backend)
    if after:
        return
    end = tokenizer.eos_token
    if end is None:
        raise ValueError(
            "embedding_model.pooling=last takes the state of the end token, and the base's tokenizer has none: set "
            "`eos_token` in its tokenizer_config.json, or take pooling=mean"
        )
    known = [(token, backend.token_to_id(token)) for token in dict.fromkeys([*before, end])]
    backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", end], pair=[*before, "$A", end, *before, "$B:1", end], special_tokens=known
    )
    ends_with(tokenizer, end)


def ends_with(tokenizer: PreTrainedTokenizerBase, end: str) -> None:
    """Check that texts end with this token, a cut one too.

    Raises:
        ValueError: they do not; the message says what to do.
    """
    cut = {"truncation": True, "max_length": 8}
    for text, how in ((_PROBE, {}), (f"{_PROBE} " * 32, cut)):
        last = tokenizer(text, **how)["input_ids"][-1]
        if last != tokenizer.convert_tokens_to_ids(end):
            raise ValueError(
                f"embedding_model.pooling=last takes the state of the end token {end!r}, but texts end with "
                f"{tokenizer.convert_ids_to_tokens(last)!r}: take pooling=mean, or a base whose tokenizer adds it"
            )


def saved_alike(model: SentenceTransformer, folder: Path) -> None:
    """Check that the saved tokenizer puts the same tokens around a text as the one that was trained with.

    Some tokenizer classes make their own post-processor when they are loaded; then the model would be evaluated on other
    tokens than it was trained on, and nothing else would show it.

    Raises:
        ValueError: it does not.
    """
    trained = model.tokenizer
    if not isinstance(trained, PreTrainedTokenizerBase) or not (folder / "tokenizer_config.json").exists():
        return
    loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    ours, theirs = (tokenizer(_PROBE)["input_ids"] for tokenizer in (trained, loaded))
    if ours != theirs or trained.pad_token != loaded.pad_token:
        raise ValueError(
            f"the saved tokenizer reads {_PROBE!r} as {theirs} and was trained with {ours} (pad {loaded.pad_token!r} and "
            f"{trained.pad_token!r}): its class {type(loaded).__name__} does not keep its post-processor; save the base's "
            "tokenizer as PreTrainedTokenizerFast and name that folder as embedding_model.base"
        )


def _around(backend: Tokenizer) -> tuple[list[str], list[str]]:
    """The special tokens that a tokenizer puts before and after a text."""
    encoded = backend.encode(_PROBE)
    inside = [place for place, special in enumerate(encoded.special_tokens_mask) if not special]
    first, last = (inside[0], inside[-1]) if inside else (len(encoded.tokens), len(encoded.tokens) - 1)
    return encoded.tokens[:first], encoded.tokens[last + 1 :]


def _prompted(model: SentenceTransformer, template: str | None) -> SentenceTransformer:
    """The model with the prompts that it is trained with and will be evaluated with: those of the recipe's instruction, or
    its own."""
    if template is None:
        model.prompts["document"] = prompts_of(model)["document"]
        return model
    if not template.endswith("{query}"):
        raise ValueError(
            f"embedding_model.instruction {template!r} must end with {{query}}: models keep it as a prefix"
        )
    prefix = template.removesuffix("{query}")
    own = {INSTRUCTION: prefix} if "{task}" in prefix else {"query": prefix}
    model.prompts = {"query": "", "document": "", **own}  # not those of the base: only queries get the recipe's
    model.default_prompt_name = None
    return model


def prompts_of(model: SentenceTransformer) -> dict[str, str]:
    """A model's prompts by name, that of documents under `document`."""
    return with_document_prompt({name: text or "" for name, text in model.prompts.items()})


def default_prompt(model: SentenceTransformer) -> str:
    """What a model puts before texts that have no prompt of their own."""
    return model.prompts.get(model.default_prompt_name or "") or ""


def prompted(rows: pl.DataFrame, prompts: Mapping[str, str], default: str) -> dict[str, list[str | None]]:
    """The texts of each field with their prompts, the same in training and evaluation, in the order of the rows.

    Args:
        rows: task_type, `task` (what an instruction's {task} is filled with), query, positive, negative.
        prompts: A model's prompts, `document` among them (`with_document_prompt`).
        default: What the model puts before texts that have no prompt of their own.
    """
    template = prompts.get(INSTRUCTION)
    shown: dict[str, list[str | None]] = {field: [] for field in TRIPLET_FIELDS}
    for task_type, task, *texts in rows.select("task_type", "task", *TRIPLET_FIELDS).iter_rows():
        if template is None:
            query, document = trained_prompts(prompts, task_type, default)
        else:
            query = template.replace("{task}", task)
            document = query if task_type in SYMMETRIC else ""
        for field, prompt, text in zip(TRIPLET_FIELDS, (query, document, document), texts, strict=True):
            shown[field].append(None if text is None else f"{prompt}{text}")
    return shown
