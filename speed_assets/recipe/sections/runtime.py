"""How a recipe is run: machines, studies and rehearsals. No fingerprint but that of a rehearsal contains any of it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.recipe.section import NUMBER_MAX, RESAMPLES_MAX, Count, Positive, Rate, Section


class Study(Section):
    """What `speed study` compares: variants of this recipe. Nothing here changes an artifact of this recipe."""

    seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3)
    """Seeds; everything is made once under each (paper: one)."""
    teacher_multiples: tuple[Positive, ...] = (1, 11)
    """Teacher-only arms: rows that the teacher writes for this multiple of the calls that SPEED needs (E5-mistral: 500K calls
    to SPEED's 45K, so 11). Each is paid for: leave out what is too dear."""
    ablations: tuple[Literal["no_revisor", "no_dpo", "junior_only", "no_distil"], ...] = (
        "no_revisor",
        "no_dpo",
        "junior_only",
    )
    """Ablations: parts of the loop that are left out, one at a time (paper section 4.3). `no_distil` trains on the same rows without
    `embedding_model.distil`, for a recipe that has it (ours)."""
    ablation_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of `senior_data.rows` at which ablations are compared with the full loop (paper: 230K of 920K)."""
    scaling: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.125, 0.25, 0.5)
    """Shares of `senior_data.rows` that are the scaling curve together with 1 (ours)."""
    alike: Literal["epochs", "steps"] = "epochs"
    """What the embedding trainings of all arms have in common: the epochs of the recipe, or the optimizer steps of SPEED, so
    that an arm with fewer rows is not trained for less time (ours)."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Intervals have coverage 1 - alpha, with Holm's correction over all comparisons (ours)."""
    resamples: Annotated[int, Field(ge=100, le=RESAMPLES_MAX)] = 4_000
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
    """Generation in shards, on this machine or on many. All numbers are ours, and none changes a row."""

    kind: Literal["ray", "local"]
    """`ray` runs each shard as a Ray task; `local` runs one after the other on this machine, to try the same code."""
    address: str | None = None
    """Ray's: `auto` (the cluster that runs on this machine), `host:port` of its head, or `ray://host:port`. null takes
    the environment's `RAY_ADDRESS`, and without one starts Ray on this machine alone for the run, on loopback."""
    shard_rows: Positive = 4096
    """Rows of a shard: what a lost machine costs, and what a killed run repeats. The `transformers` engine takes the next
    multiple of `generator.batch_rows`, so that its batches are those of a run without shards."""
    cpus_per_shard: Rate = 1.0
    """Cores that a task reserves, and its threads unless `runtime.threads` is set."""
    gpus_per_shard: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 0.0
    """GPUs that a task reserves; below 1 several tasks share a card, each with an engine of its own on it."""
    retries: Count = 3
    """Retries of a shard whose machine or process was lost. Errors of the job itself are not retried."""
    in_flight: Positive = 256
    """Shards submitted to Ray at a time, waiting ones included: their rows are in memory, and an autoscaler counts them."""
    patience_minutes: Rate = 15.0
    """Minutes to wait for a machine with room for a shard; then the run stops."""
    gpus_per_step: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 0.0
    """GPUs reserved for a stage that trains or scores when Dagster's steps are Ray jobs (`SPEED_EXECUTOR=ray`)."""


class Lanes(Section):
    """How many steps of a run work in parallel, by what they need. Nothing here changes a result; numbers are ours."""

    cpu: Positive | None = None
    """Parallel stages with models, and parallel jobs of a stage, without a GPU; null takes the number of cores."""
    gpu: Positive = 1
    """Parallel stages with models, with a GPU or a cluster."""
    teacher: Positive = 1
    """Parallel stages that ask the teacher, each with up to `calls.concurrency_max` requests in flight."""


class Runtime(Section):
    """How a run uses its machine. Nothing here changes a result but for rounding, so no fingerprint contains it. Numbers are ours."""

    threads: Positive | None = None
    """CPU threads of a worker; null takes all cores. With fewer, and without a GPU, a stage runs as many independent jobs at the same time as cores allow, each
    with its model in memory. On some processors sums over another number of threads round differently, so models differ in their last digits."""
    lanes: Lanes = Lanes()
    warm_start: bool = True
    """Fork workers from a process that has imported the libraries, instead of importing them in each."""
    teacher_batch: Positive = 256
    """Answers of the microworld's teacher that are written to the ledger in one transaction."""
    engine_python: str | None = None
    """Python interpreter of the environment with vLLM; null uses this one. `SPEED_ENGINE_PYTHON` overrides it."""
    engine_restarts: Count = 3
    """Restarts of a generation engine that died, for each stage."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that vLLM may use."""
    max_model_length: Positive | None = None
    """Maximum tokens of prompt and output in vLLM; null takes the limit of the model."""
    processes: Positive = 1
    """Processes that train a generator, one for each GPU, started by the launcher of accelerate."""
    scoring_batch: Positive = 256
    """Texts that a model embeds at a time while it is scored. A smaller number takes less memory, and no score changes but for
    rounding."""
    checkpoint_minutes: Annotated[float, Field(ge=0, le=NUMBER_MAX)] = 10.0
    """Minutes between two checkpoints of a training: the most that a killed run repeats."""
    cluster: Cluster | None = None
    """Distributes generation over a cluster; null generates in this process."""


class Rehearsal(Section):
    """Makes a recipe the rehearsal of another one; only `speed rehearse` sets it. All numbers are ours."""

    pairs: Positive = 2
    """Minimum rows of preference_pairs and revision_data for each task type; stand-ins fill up the table."""
    rows: Positive = 8
    """Minimum rows of final_triplets; rejected rows fill up the table."""
