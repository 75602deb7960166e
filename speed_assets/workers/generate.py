"""Generates text with a causal language model; what a row gets does not depend on the other rows of its batch.

Every row samples with uniforms of its own, named by (seed, row id, candidate) and the step, so batch
size, order and an interruption leave it as it is (up to rounding in the model's own sums). Finished
shards are in a journal that the next attempt reads.

Belongs here: batching, decoding, sampling, the journal. Not here: prompts and what an output means.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, DynamicLayer
from typing_extensions import override

from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.workers.adapters import require_effect
from speed_assets.workers.dialogue import Dialogue, dialogue_of
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Generate, Order, Params
from speed_assets.workers.journal import LIMIT, asked

COMPACT_AT = 0.8
"""Finished rows leave the batch when fewer than this share of it is still running."""
ROOM = 64
"""Tokens by which a full cache grows."""


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write one output for each row of the table `prompts` (row_id, candidate, prompt, maybe max_new_tokens) to `out`.

    `out` has, in the order of `prompts`: row_id, candidate, output (text without the end token), prompt_tokens,
    output_tokens (end token counted), finished (the end token was reached), error (null here; other engines write into it
    why a row has no output). A prompt that leaves no room in the model's context gets an empty, unfinished output.

    Args:
        params: of a job of kind `Generate`. An adapter is merged into the model.
        report: gets the progress, in rows.

    Returns:
        rows, output_tokens, prompt_tokens, seconds, tokens_per_second (of this attempt).
    """
    job = Generate.read(params)
    started = time.monotonic()
    journal, out = Path(job.journal), Path(job.out)
    journal.mkdir(parents=True, exist_ok=True)
    rows = asked(job)
    generator = loaded(job)
    shards = generator.shards(rows)
    done = new_tokens = 0
    for name, shard in shards:
        file = journal / f"{name}.parquet"
        if not file.exists():

            def finished(count: int, before: int = done) -> None:
                report(before + count, len(rows), "rows")

            made = generator.generate(shard, finished)
            new_tokens += int(made["output_tokens"].sum())
            unfinished = file.with_suffix(".tmp")
            made.write_parquet(unfinished)
            unfinished.replace(file)
        done += len(shard)
        report(done, len(rows), "rows")
    outputs = _gather([journal / f"{name}.parquet" for name, _ in shards])
    out.parent.mkdir(parents=True, exist_ok=True)
    outputs.write_parquet(out)
    seconds = time.monotonic() - started
    return {
        "rows": len(outputs),
        "output_tokens": int(outputs["output_tokens"].sum()),
        "prompt_tokens": int(outputs["prompt_tokens"].sum()),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(new_tokens / seconds, 1),
    }


def _gather(files: list[Path]) -> pl.DataFrame:
    empty = pl.DataFrame(
        schema={
            "position": pl.Int64,
            "row_id": pl.String,
            "candidate": pl.Int64,
            "output": pl.String,
            "prompt_tokens": pl.Int64,
            "output_tokens": pl.Int64,
            "finished": pl.Boolean,
        }
    )
    outputs = pl.concat([empty, *(pl.read_parquet(file) for file in files)]).sort("position").drop("position")
    return outputs.with_columns(pl.lit(None, pl.String).alias("error"))


_LOADED: dict[str, Generator] = {}


def loaded(job: Generate) -> Generator:
    """The model of a job: the one that the last job of a resident worker has left, if it is the same."""
    name = digest([job.model, job.revision, job.adapter, job.dtype, job.chat])
    if name not in _LOADED:
        _LOADED.clear()  # before the next one is loaded: a card has room for one
        _LOADED[name] = Generator(job)
    _LOADED[name].job = job
    return _LOADED[name]


def load_tokenizer(job: Order) -> PreTrainedTokenizerBase:
    """The tokenizer of a job's model."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        job.model, padding_side="left", revision=job.revision, trust_remote_code=False
    )
    return tokenizer


def by_length(dialogue: Dialogue, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with position, prompt_tokens and ids, those of like length together. Any run of full batches of the result
    comes out in the same batches again."""
    ids = dialogue.prompt_ids(rows["prompt"].to_list())
    return rows.with_columns(
        pl.int_range(pl.len()).alias("position"),
        pl.col("candidate").cast(pl.Int64),
        pl.Series("prompt_tokens", [len(row) for row in ids], dtype=pl.Int64),
        pl.Series("ids", ids, dtype=pl.List(pl.Int64)),
    ).sort("prompt_tokens", "row_id", "candidate", maintain_order=True)


def merged(model: Any, adapter: str) -> Any:
    """A model with an adapter merged into it.

    Raises:
        ValueError: the adapter changes nothing.
    """
    require_effect(adapter)
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, adapter)
    require_loaded(adapted, adapter)
    return adapted.merge_and_unload()


def require_loaded(adapted: Any, folder: str) -> None:
    """Raise ValueError where no weight of the adapter has found its module: `lora_B` is 0 wherever nothing was loaded."""
    weights = dict(adapted.named_parameters())
    found = [weight for name, weight in weights.items() if "lora_B" in name]
    complete = any("modules_to_save" in name for name in weights)  # it replaces some weights instead of adding to them
    if found and not complete and not any(bool(weight.any()) for weight in found):
        raise ValueError(
            f"the adapter in {folder} changes nothing: none of its weights has a name of a module of the model"
        )


class Generator:
    """A model, its tokenizer and the sampling of one job."""

    def __init__(self, job: Generate) -> None:
        self.job = job
        device = "cuda" if torch.cuda.is_available() else "cpu"
        source = {"revision": job.revision, "trust_remote_code": False}
        self.tokenizer = load_tokenizer(job)
        dtype = getattr(torch, job.dtype)
        model: Any = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype, use_safetensors=True, **source)
        if job.adapter:
            model = merged(model, job.adapter)
        model.eval()
        self.model: PreTrainedModel = model.to(device)
        self.dialogue = dialogue_of(self.tokenizer, job.model, job.revision, job.chat)
        self.ends = torch.tensor(self.dialogue.ends, device=device)
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else int(self.ends[0])
        self.context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def shards(self, rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
        """(name, rows) of every shard: rows of like length together, which wastes little on padding.

        The name holds a digest of all that shapes the outputs, so a shard of another job is never taken for it.
        """
        table = by_length(self.dialogue, rows)
        job = self.job
        settings = [job.model, job.revision, job.adapter, job.dtype, job.seed, job.temperature, job.top_p]
        named = []
        for number, shard in enumerate(table.iter_slices(job.batch_rows)):
            content = digest([settings, shard.select("position", "row_id", "candidate", "ids", LIMIT).rows()])
            named.append((f"{number:05d}-{content[:16]}", shard))
        return named

    def generate(self, shard: pl.DataFrame, finished: Any) -> pl.DataFrame:
        """The outputs of one shard; `finished` is called with the number of rows that are done."""
        ids = shard["ids"].to_list()
        limits = shard[LIMIT].to_list()
        if self.context is not None:
            limits = [min(limit, self.context - len(row)) for limit, row in zip(limits, ids, strict=True)]
        seeds = [
            seed_for(self.job.seed, "generate", row_id, candidate)
            for row_id, candidate in shard.select("row_id", "candidate").iter_rows()
        ]
        tokens: list[list[int]] = [[] for _ in ids]
        ended = [False] * len(ids)
        fitting = [row for row, limit in enumerate(limits) if limit > 0]
        draws = uniforms([seeds[row] for row in fitting], max(limits, default=0))
        for step in self._decode([ids[row] for row in fitting], [limits[row] for row in fitting], draws):
            for place, token, end in step:
                tokens[fitting[place]].append(token)
                ended[fitting[place]] = end
            finished(sum(end or len(t) >= limit for end, t, limit in zip(ended, tokens, limits, strict=True)))
        written = [row[:-1] if end else row for row, end in zip(tokens, ended, strict=True)]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return shard.select(
            "position",
            "row_id",
            "candidate",
            pl.Series("output", texts, dtype=pl.String),
            "prompt_tokens",
            pl.Series("output_tokens", [len(row) for row in tokens], dtype=pl.Int64),
            pl.Series("finished", ended, dtype=pl.Boolean),
        )

    @torch.inference_mode()
    def _decode(
        self, ids: list[list[int]], limits: list[int], draws: np.ndarray
    ) -> Iterator[list[tuple[int, int, bool]]]:
        """Yield, for each step, (row, token, is it the end) of every row that is still running."""
        if not ids:
            return
        device = self.ends.device
        # Candidates of one prompt read it once.
        unique = {row: place for place, row in enumerate(dict.fromkeys(map(tuple, ids)))}
        inverse = torch.tensor([unique[tuple(row)] for row in ids], device=device)
        longest = max(map(len, unique))
        inputs = torch.tensor([[self.pad] * (longest - len(row)) + list(row) for row in unique], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in unique], device=device)
        cache = roomy_cache(self.model)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(inputs, mask, places, cache)[inverse]
        cache.batch_select_indices(inverse)
        mask, places = mask[inverse], places[inverse, -1:]
        uniform, limit = torch.from_numpy(draws).to(device), torch.tensor(limits, device=device)
        alive = torch.arange(len(ids), device=device)  # which row of `ids` each row of the batch is
        done = torch.zeros(len(ids), dtype=torch.bool, device=device)
        for step in range(uniform.shape[1]):
            token = choose(logits, uniform[alive, step], self.job.temperature, self.job.top_p)
            end = torch.isin(token, self.ends)
            going = ~done
            yield list(zip(alive[going].tolist(), token[going].tolist(), end[going].tolist(), strict=True))
            done = done | end | (limit[alive] <= step + 1)
            remaining = int((~done).sum())
            if remaining == 0:
                return
            if remaining < COMPACT_AT * len(done):
                keep = (~done).nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                token, mask, places, alive, done = token[keep], mask[keep], places[keep], alive[keep], done[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            places = places + 1
            logits = self._forward(token[:, None], mask, places, cache)

    def _forward(
        self, inputs: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) of the next token."""
        output = self.model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits
        return logits[:, -1].float()


def uniforms(seeds: list[int], steps: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 (rows, steps): SplitMix64 (Steele et al. 2014) from each row's seed on."""
    with np.errstate(over="ignore"):
        counter = np.arange(1, steps + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = np.array(seeds, dtype=np.uint64)[:, None] + counter[None, :]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    result: np.ndarray = (z >> np.uint64(11)) * 2.0**-53
    return result


def choose(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The token at which each row's distribution function passes its uniform number; greedy at temperature 0.

    One number a row suffices, where Gumbel noise would need one for each word of the vocabulary.

    Args:
        logits: (rows, vocabulary).
        uniform: (rows,) in [0, 1), float64.
        temperature: divides the logits.
        top_p: 0..1, the probability that the likeliest tokens must hold together; the others are never chosen.

    Returns:
        Token ids, (rows,).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(dim=-1) - ordered >= top_p
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(outside, 0))
    reached = probabilities.cumsum(dim=-1, dtype=torch.float64)
    token = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True).squeeze(1)
    return token.clamp(max=logits.shape[-1] - 1)


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer with room to grow, which spares copying all of it at each token."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.room: tuple[torch.Tensor, torch.Tensor] | None = None

    @override
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new, width) states; returns all so far, as views."""
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if self.room is None or self.room[0].shape[-2] < stop:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.room = self._grow(self.keys, key_states, stop), self._grow(self.values, value_states, stop)
        self.room[0][..., start:stop, :] = key_states
        self.room[1][..., start:stop, :] = value_states
        self.keys, self.values = (room[..., :stop, :] for room in self.room)
        return self.keys, self.values

    @staticmethod
    def _grow(old: torch.Tensor | None, new: torch.Tensor, length: int) -> torch.Tensor:
        rows, heads, _, width = new.shape
        room = new.new_empty(rows, heads, length + ROOM, width)
        if old is not None:
            room[..., : old.shape[-2], :] = old
        return room

    @override
    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep, repeat or reorder rows."""
        super().batch_select_indices(indices)
        self.room = None


def roomy_cache(model: PreTrainedModel) -> DynamicCache:
    """The model's own kind of cache, its plain layers replaced by roomy ones."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
