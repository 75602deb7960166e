"""How a recipe is run: machines, studies and rehearsals. No fingerprint contains anything of this."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.recipe.section import Count, Positive, Rate, Section


class Study(Section):
    """What `speed study` compares: recipes made from this one. Nothing here changes an artifact of this recipe."""

    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3)
    """Seeds under which everything is made anew (the paper: one)."""
    teacher_multiples: tuple[Positive, ...] = (1, 11)
    """Teacher-only arms: rows of the teacher alone for so many times the calls that SPEED takes (E5-mistral: 500K calls
    to SPEED's 45K, so 11). Each is paid for: leave out what is too dear."""
    ablations: tuple[Literal["no_revisor", "no_dpo", "junior_only"], ...] = ("no_revisor", "no_dpo", "junior_only")
    """Parts of the loop that are left out, one after the other (paper section 4.3)."""
    ablation_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of `senior_data.rows` at which ablations are compared with the whole loop (paper: 230K of 920K)."""
    scaling: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.125, 0.25, 0.5)
    """Shares of `senior_data.rows` that are the scaling curve together with 1 (ours)."""
    alike: Literal["epochs", "steps"] = "epochs"
    """What embedding trainings have in common: as many passes over the arm's rows, as the recipe says, or as many steps as
    SPEED's, so that an arm with fewer rows sees them more often and is not merely trained for a shorter time (ours)."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Intervals hold the truth with probability 1 - alpha; Holm's over all comparisons (ours)."""
    resamples: Annotated[int, Field(ge=100)] = 4_000
    """Bootstrap draws of each comparison (ours)."""

    @model_validator(mode="after")
    def _distinct(self) -> Study:
        for name in ("seeds", "teacher_multiples", "ablations", "scaling"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"study.{name}={list(values)} names one twice")
        needed = math.ceil(2 / self.alpha) * (len(self.teacher_multiples) + len(self.ablations))
        if self.resamples < needed:
            raise ValueError(f"study.resamples={self.resamples} is too few for its comparisons: at least {needed}")
        return self


class Cluster(Section):
    """Generation in shards, on this machine or on many. All numbers are ours; none changes a row."""

    kind: Literal["ray", "local"]
    """`ray` makes each shard a Ray task; `local` makes one after the other here, as a trial of the same way."""
    address: str | None = None
    """Ray's: `auto` (the cluster that runs on this machine), `host:port` of its head, or `ray://host:port`. null takes
    the environment's `RAY_ADDRESS`, and without one starts Ray on this machine alone for the run, on loopback."""
    shard_rows: Positive = 4096
    """Rows in a shard: what a lost machine costs, and what a killed run repeats. The `transformers` engine takes the next
    multiple of `generator.batch_rows`, so that its batches are those of a run without shards."""
    cpus_per_shard: Rate = 1.0
    """Cores that a task reserves; also its threads, unless `runtime.threads` says otherwise."""
    gpus_per_shard: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that a task reserves; below 1 several tasks share a card, each with an engine of its own on it."""
    retries: Count = 3
    """Times that a shard is sent again when its machine or process was lost. An error of the job itself is told at once."""
    in_flight: Positive = 256
    """Shards handed to Ray at a time, waiting ones included: their rows lie in memory, and an autoscaler sees them."""
    patience_minutes: Rate = 15.0
    """Minutes to wait for a machine that has room for a shard, before the run ends and says so."""
    gpus_per_step: Annotated[float, Field(ge=0)] = 0.0
    """GPUs reserved for a stage that trains or scores when Dagster's steps are Ray jobs (`SPEED_EXECUTOR=ray`)."""


class Lanes(Section):
    """How many steps of a run work at the same time, by what they need. Nothing here changes a result."""

    cpu: Positive | None = None
    """Stages with models where there is no GPU; null takes as many as this machine has cores."""
    gpu: Positive = 1
    """Stages with models where there is a GPU, or where generation goes to a cluster."""
    teacher: Positive = 1
    """Stages that ask the teacher; each may have `calls.concurrency_max` requests in flight."""


class Runtime(Section):
    """How a run is carried out. Nothing here changes a result, so nothing here is in a fingerprint."""

    threads: Positive | None = None
    """CPU threads of a worker; null takes all cores."""
    lanes: Lanes = Lanes()
    warm_start: bool = True
    """Fork workers from a process that has imported the libraries, instead of starting each afresh."""
    teacher_batch: Positive = 256
    """Microworld teacher calls written to the ledger in one transaction."""
    engine_python: str | None = None
    """Python of the environment that has vLLM; null uses this one. `SPEED_ENGINE_PYTHON` overrides it."""
    engine_restarts: Count = 3
    """Times that a dead generation engine is started again in one stage."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a card's memory that vLLM may take."""
    max_model_length: Positive | None = None
    """Tokens of prompt and output that vLLM makes room for; null takes the model's own limit."""
    processes: Positive = 1
    """Processes that train a generator, one for each GPU, started by accelerate's launcher."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10.0
    """Minutes between two checkpoints of a training: the most that a kill can cost."""
    cluster: Cluster | None = None
    """Where generation is spread to; null generates here, in one piece."""


class Rehearsal(Section):
    """What makes a recipe a rehearsal of another one; `speed rehearse` sets it, no file does. All numbers are ours."""

    pairs: Positive = 2
    """Rows of preference_pairs and revision_data, for each task type, below which stand-ins fill the table."""
    rows: Positive = 8
    """Rows of final_triplets below which rows that a filter set aside come back."""
