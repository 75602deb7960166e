"""What engines that stream rows share: which rows are left, their tokens, room and seed, and the table at the end.

Belongs here: the way of a job from prompts to outputs. Not here: an engine, and nothing that an engine's
environment may lack.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.workers.adapters import require_effect, require_fit
from speed_assets.workers.dialogue import Dialogue, dialogue_of
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import GenerateVllm
from speed_assets.workers.journal import LIMIT, Journal, Output, asked

SHAPING = (
    "model",
    "revision",
    "adapter",
    "dtype",
    "seed",
    "temperature",
    "top_p",
    "max_model_length",
    "schema",
    "chat",
    "whitespace_max",
)
"""Parameters that shape an output: a journal of other ones is not taken."""
CHUNK = 256
"""Rows tokenized at a time."""


class EngineDied(RuntimeError):
    """The engine ended under its worker; started again, the job resumes where it was."""


@dataclass(frozen=True, slots=True)
class Request:
    """One row for an engine."""

    position: int
    ids: list[int]
    """Tokens of the prompt."""
    limit: int
    """Most tokens of the output: what was asked for, or what the context leaves."""
    seed: int


class Stream:
    """The rows of a job (row_id, candidate, prompt, maybe max_new_tokens) on their way; see `jobs.GenerateVllm` for its parameters."""

    def __init__(self, job: GenerateVllm, report: Report) -> None:
        self._job, self._report = job, report
        self._rows = asked(job)
        shaping = [getattr(job, name) for name in SHAPING]
        if shaping[-1] is None:
            shaping.pop()  # journals of before there was a bound on white space
        if job.adapter:
            require_effect(job.adapter)
            require_fit(job.adapter, job.model, job.revision)
        named = digest([shaping, [short_id(*row) for row in self._rows.iter_rows()]])
        self._journal = Journal(Path(job.journal), named[:16], job.crash)
        self._dialogue: Dialogue | None = None
        self._context = 0
        self._first = self._last = 0.0
        self._tokens = 0

    @property
    def unfinished(self) -> bool:
        """Whether any row is left for an engine."""
        return len(self._journal.done) < self._rows.height

    def use(self, tokenizer: Any, context: int) -> tuple[int, ...]:
        """Take the engine's tokenizer (of the transformers kind) and its room for prompt and output in tokens.

        Returns the tokens at which the engine has to stop, whatever it knows by itself.
        """
        job = self._job
        self._dialogue, self._context = dialogue_of(tokenizer, job.model, job.revision, job.chat), context
        return self._dialogue.ends

    def groups(self) -> Iterator[Iterator[list[Request]]]:
        """Groups of rows to be under way together, each in chunks to draw when the engine has room.

        The clock of the generation starts here. Rows of a chunk count as under way from when it is drawn.
        """
        self._first = self._last = time.monotonic()
        for positions in self._journal.groups(self._rows.height):
            yield (self._requests(positions[start : start + CHUNK]) for start in range(0, len(positions), CHUNK))

    def _requests(self, positions: list[int]) -> list[Request]:
        chunk = self._rows[positions]
        assert self._dialogue is not None  # `use` comes first
        tokens = self._dialogue.prompt_ids(chunk["prompt"].to_list())
        requests, without_room = [], []
        for position, ids, (row_id, candidate, _, most) in zip(positions, tokens, chunk.iter_rows(), strict=True):
            limit = min(most, self._context - len(ids))
            if limit < 1:
                without_room.append(Output(position, "", len(ids), 0, finished=False))
            else:
                requests.append(Request(position, ids, limit, seed_for(self._job.seed, "generate", row_id, candidate)))
        self.finish(without_room)
        self._journal.begin([request.position for request in requests])
        return requests

    def finish(self, outputs: list[Output]) -> None:
        """Keep finished rows and report how many there are."""
        if not outputs:
            return
        self._journal.finish(outputs)
        self._tokens += sum(output.output_tokens for output in outputs)
        self._last = time.monotonic()
        self._report(len(self._journal.done), self._rows.height, "rows")

    def close(self) -> dict[str, Any]:
        """Write the table `out` and return the result of the job.

        `generation_seconds` runs from the first request to the last output of this attempt and
        `generation_tokens` were made in it; starting an engine and writing the table are not in it.
        """
        made = self._journal.table()
        outputs = pl.concat([self._rows.drop("prompt", LIMIT), made.drop("position")], how="horizontal")
        out = Path(self._job.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        outputs.write_parquet(out)
        self._report(self._rows.height, self._rows.height, "rows")
        self._journal.close()
        seconds = self._last - self._first
        return {
            "rows": outputs.height,
            "output_tokens": int(outputs["output_tokens"].sum()),
            "prompt_tokens": int(outputs["prompt_tokens"].sum()),
            "errors": int(outputs["error"].count()),
            "generation_tokens": self._tokens,
            "generation_seconds": round(seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1) if seconds else 0.0,
        }


def held_to(schema: dict[str, Any], whitespace_max: int | None) -> dict[str, Any]:
    """Arguments of vLLM's `StructuredOutputsParams` that hold an output to a schema.

    White space between the parts of a JSON text is free, and a model may write nothing else until its tokens are used up
    (vllm#38696, xgrammar#802). Taking all of it away makes the grammar cut usual tokens (docs/benchmarks.md), so it is
    bounded: XGrammar from 0.2.4 on takes the number with a structural tag, which vLLM passes on.

    Args:
        schema: JSON schema of the output.
        whitespace_max: white-space characters in a row at most, outside of texts; None leaves them free.
    """
    if whitespace_max is None:
        return {"json": schema}
    held = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": whitespace_max}
    return {"structural_tag": json.dumps({"type": "structural_tag", "format": held})}
