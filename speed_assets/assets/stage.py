"""From a stage of the graph to a Dagster asset: resolve inputs -> fingerprint -> reuse or do -> result.

Every asset goes through `asset_for`, so every asset resumes, is reused and tells its story in the
same way. Belongs here: that way. Not here: what any one stage does.
"""

import base64
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from resources.compute.runner import Runner
from resources.instance import gpu_pool
from resources.ledger.calls import CallContext, TeacherAnswer
from resources.releases.releases import released
from resources.store.artifacts import Artifacts, label
from resources.store.asset_keys import key_of
from resources.store.store import ASIDE, PARQUET, SCRATCH, Artifact
from resources.teacher.teacher import Teacher, TeacherUse
from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.columns import COLUMNS
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import Stage, sources
from speed_assets.domain.prompts import PromptKind
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.recipe import Recipe, RecipeError, Sampling

Progress = Callable[[int, int, str], None]
OWNERS = ["team:speed"]
RUN_TAG = "speed/run"
REFUSED = "refused"
"""Metadata of a failure: the fields of each `GateRefusal` of a release."""
SAMPLE_ROWS = 5
_CELL = 300  # characters of a cell shown in metadata
_PLOT_BYTES = 60_000  # larger plots stay on disk: metadata lives in the event log


class RecipeView:
    """The sections of a recipe that a stage may read; any other raises, since no fingerprint would know of it."""

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self._recipe = recipe
        self._allowed = {*stage.reads, stage.name}
        self._stage = stage.name

    def __getattr__(self, section: str) -> Any:
        if section not in self._allowed:
            raise AttributeError(f"stage {self._stage} does not list recipe section `{section}` among its reads")
        return getattr(self._recipe, section)


@dataclass
class StageRun:
    """What a stage's function is given. It writes files below `out` and returns plain metadata."""

    stage: Stage
    partition: str | None
    recipe: RecipeView
    whole_recipe: Recipe
    inputs: Mapping[str, Mapping[str | None, Artifact]]
    out: Path
    artifacts: Artifacts
    runner: Runner
    teacher: Teacher
    context: CallContext
    progress: Progress
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """For journals and checkpoints: kept while the stage is unfinished, dropped when it is complete."""
        return self.out / SCRATCH

    @property
    def task_type(self) -> str:
        assert self.partition is not None, f"{self.stage.name} is not partitioned by task type"
        return self.partition

    def input(self, name: str) -> Artifact:
        """The one artifact of an input: unpartitioned, or of this partition."""
        group = self.inputs[name]
        return group[self.partition] if self.partition in group else group[None]

    def input_rows(self, name: str) -> pl.DataFrame:
        """The rows of an input over all its partitions, in the order of the task types."""
        return pl.concat([artifact.table() for artifact in self.inputs[name].values()], how="vertical")

    def ask(
        self,
        prompts: Iterable[str],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        sample: int = 0,
        model: str | None = None,
        limits: Sequence[int] | None = None,
    ) -> tuple[list[TeacherAnswer], TeacherUse]:
        """Asks the teacher, in the name of this stage.

        Args:
            prompts: what is asked.
            sampling: how answers are drawn.
            schema: JSON schema of an answer.
            sample: number that tells further answers to the same prompt apart.
            model: another teacher at the same endpoint.
            limits: tokens of each answer at most (`limits`), in place of `sampling.max_new_tokens`.

        Returns:
            The answers in the order of the prompts, and what they took.
        """
        requests = self.teacher.requests(prompts, sampling, schema, sample, model, limits)
        return self.teacher.ask(self.context, requests, self.progress)

    def limits(self, sampling: Sampling, words: Iterable[int], cuts: Iterable[int] | None = None) -> list[int]:
        """Tokens that each answer may have: the recipe's number, or what its `words` need (`answers`).

        Args:
            sampling: the stage's sampling; its `max_new_tokens` goes before the words.
            words: words that each prompt asks for.
            cuts: how often each answer was cut off before, which makes its limit larger; none by default.
        """
        lengths, fixed = self.recipe.answers.lengths(), sampling.max_new_tokens
        base = [lengths.limit(number) if fixed is None else fixed for number in words]
        return base if cuts is None else [lengths.grown(limit, cut) for limit, cut in zip(base, cuts, strict=True)]

    def most_words(self, kind: PromptKind, task_type: str | None = None, count: int = 1) -> int:
        """Words that any prompt of this kind may ask for in this task type (the stage's own unless one is named)."""
        task_type = task_type or self.task_type
        values = {attribute.name: attribute.values for attribute in ATTRIBUTES[task_type]}
        words: int = self.recipe.answers.lengths().most_words(kind, task_type, values, count)
        return words

    def most_answer_tokens(self, kind: PromptKind) -> int:
        """Tokens of the longest answer of this kind to any task type, asked again once because it was cut off."""
        lengths: AnswerLengths = self.recipe.answers.lengths()
        return max(lengths.grown(lengths.limit(self.most_words(kind, name)), 1) for name in TASK_TYPE_NAMES)

    def write(self, frame: pl.DataFrame, name: str = "data") -> None:
        """Write a table of the artifact."""
        self.tables[name] = frame
        frame.write_parquet(self.out / f"{name}.parquet", **PARQUET)


StageFunction = Callable[[StageRun], dict[str, Any]]


def asset_for(
    stage: Stage,
    partition: str | None,
    function: StageFunction,
    artifacts: Artifacts,
    *,
    checks: Sequence[dg.AssetCheckSpec] = (),
    judged: Callable[[Artifact, Artifacts], Iterable[dg.AssetCheckResult]] = lambda _artifact, _artifacts: (),
    refused: Callable[[Sequence[Mapping[str, Any]]], Iterable[dg.AssetCheckResult]] = lambda _reasons: (),
    code_version: str | None = None,
    note: str | None = None,
    step_tags: Mapping[str, str] | None = None,
) -> dg.AssetsDefinition:
    """The Dagster asset of a stage, or of one task type of it.

    Args:
        stage: the stage.
        partition: the task type; None where the stage has one artifact.
        function: what makes the artifact.
        artifacts: of the recipe.
        checks: of the asset.
        judged: what the checks say of the artifact.
        refused: what they say of a candidate that was refused for these reasons.
        code_version: that of code and recipe unless another is given.
        note: why it is stale, said before what it is.
        step_tags: tell an executor what the step needs.
    """

    @dg.asset(
        key=key_of((stage.name, partition)),
        deps=[key_of(source) for source in sources(artifacts.graph, stage.name, partition)],
        check_specs=checks,
        # A node of the asset graph shows the last part of its key alone, so the box around task types names their stage.
        group_name=stage.name if partition else stage.group,
        kinds={stage.kind, "python"},
        owners=OWNERS,
        code_version=code_version or artifacts.code_version(stage.name, partition),
        description=f"{note}\n\n{stage.description}" if note else stage.description,
        required_resource_keys={"artifacts", "runner", "teacher", "progress"},
        pool=gpu_pool.POOL if stage.gpu else None,
        op_tags=dict(step_tags or {}),
    )
    def materialize(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
        resources = context.resources
        started = time.monotonic()
        try:
            artifact, reused = make(
                stage,
                function,
                partition,
                resources.artifacts,
                resources.runner,
                resources.teacher,
                CallContext(run_of(context.run), stage.name, partition),
                _logged(resources.progress(label(stage.name, partition)), context.log.info),
            )
        except dg.Failure as failure:
            reasons = failure.metadata.get(REFUSED)
            yield from refused(reasons.value if reasons and isinstance(reasons.value, list) else [])
            raise
        if stage.kind == "release":
            released(resources.artifacts.store, artifact.fingerprint)
        for line in resources.artifacts.store.damaged:
            context.log.warning(line)
        context.log.info(
            f"{label(stage.name, partition)}: {'reused' if reused else 'made'} {artifact.fingerprint[:12]}"
        )
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(artifact.digest[:32]),
            metadata=describe(
                artifact, stage, reused, time.monotonic() - started, resources.artifacts.made_of(stage.name, partition)
            ),
            check_results=list(judged(artifact, resources.artifacts)),
        )

    return materialize


def run_of(run: dg.DagsterRun) -> str:
    """The id under which calls are paid and capped: that of `speed run`, else Dagster's."""
    return run.tags.get(RUN_TAG) or run.run_id


def make(
    stage: Stage,
    function: StageFunction,
    partition: str | None,
    artifacts: Artifacts,
    runner: Runner,
    teacher: Teacher,
    context: CallContext,
    progress: Progress,
) -> tuple[Artifact, bool]:
    """The artifact of a stage and whether it was there already. Raises NotMaterialized when an input is missing."""
    lineage = artifacts.lineage(stage.name, partition)
    fingerprint = digest(lineage)
    found = artifacts.store.find(stage.name, fingerprint)
    if found:
        artifacts.store.share(found)  # a run that was cut short may have left it here alone
        return found, True

    def waiting() -> None:
        progress(0, 0, "another run is making this: waiting for it")

    with artifacts.store.building(fingerprint, waiting) as out:
        found = artifacts.store.find(stage.name, fingerprint)  # another run may have finished it meanwhile
        if found:
            artifacts.store.share(found)  # who made it may have been killed before it could
            return found, True
        started = time.monotonic()
        run = StageRun(
            stage=stage,
            partition=partition,
            recipe=RecipeView(artifacts.recipe, stage),
            whole_recipe=artifacts.recipe,
            inputs=artifacts.inputs(stage.name, partition),
            out=out,
            artifacts=artifacts,
            runner=runner,
            teacher=teacher,
            context=context,
            progress=progress,
        )
        metadata = function(run)
        now = artifacts.externals(stage.name, partition)
        if changed := [name for name, content in lineage["externals"].items() if now[name] != content]:
            raise RecipeError(
                f"{label(stage.name, partition)}: {', '.join(changed)} changed while it was made from it: run again"
            )
        metadata["seconds"] = round(time.monotonic() - started, 2)
        if "data" in run.tables:
            metadata |= _table_metadata(run.tables)
        artifact = artifacts.store.complete(
            stage.name, fingerprint, out, partition=partition, metadata=metadata, lineage=lineage
        )
    artifacts.store.share(artifact)
    return artifact, False


def _table_metadata(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    data = tables["data"]
    described: dict[str, Any] = {
        "rows": data.height,
        "columns": {name: str(dtype) for name, dtype in data.schema.items()},
        "sample": [{k: _cell(v) for k, v in row.items()} for row in data.head(SAMPLE_ROWS).iter_rows(named=True)],
    }
    if "quarantine" in tables:
        described["quarantined"] = tables["quarantine"].height
    return described


def _cell(value: Any) -> Any:
    return value[:_CELL] if isinstance(value, str) else value


def describe(
    artifact: Artifact, stage: Stage, reused: bool, seconds: float, made_of: Mapping[tuple[str, str | None], str]
) -> dict[str, Any]:
    """Dagster metadata of an artifact, in the order in which a person reads: results, plots, rows, figures, provenance.

    Model text is shown as cells of tables and as JSON only, never as markup. `made_of` is `Artifacts.made_of` of it.
    """
    said = dict(artifact.metadata)
    columns, sample = said.pop("columns", {}), said.pop("sample", [])
    nested_last = sorted(said, key=lambda name: isinstance(said[name], dict | list))
    figures = {name: _shown(said[name]) for name in nested_last}
    shown: dict[str, Any] = {name: figures[name] for name in _FIRST if name in figures} | _plots(artifact)
    if sample:
        rows = [dg.TableRecord({name: _in_table(value) for name, value in row.items()}) for row in sample]
        shown["sample"] = dg.MetadataValue.table(rows, schema=_schema(columns))
    shown |= figures
    if columns:
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(_schema(columns))
    if "rows" in said:
        shown["dagster/row_count"] = said["rows"]
    return {
        **shown,
        "dagster/uri": dg.MetadataValue.path(str(artifact.path)),
        "reused": reused,
        "step_seconds": round(seconds, 2),
        "made_of": dg.MetadataValue.json({label(*source): content for source, content in made_of.items()}),
        "fingerprint": artifact.fingerprint,
        "digest": artifact.digest,
    }


_FIRST = (
    "number",
    "scores",
    "rows",
    "asked",
    "quarantined",
    "truth",
    "kept",
    "removed",
    "warning",
    "loss_first",
    "loss_last",
)
"""What of an artifact's figures is looked for first."""


def _shown(value: Any) -> Any:
    """A figure as it is shown: four significant digits of fractions, JSON of what is nested."""
    if isinstance(value, dict | list):
        return dg.MetadataValue.json(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    return dg.MetadataValue.null() if value is None else value


def _schema(columns: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, dtype, description=COLUMNS.get(name)) for name, dtype in columns.items()]
    )


def _in_table(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if value is None or isinstance(value, str | int):
        return value
    return json.dumps(value, ensure_ascii=False)[:_CELL]


def _plots(artifact: Artifact) -> dict[str, Any]:
    """Plots of an artifact that are small enough for the event log, by name."""
    found = {}
    for plot in sorted((artifact.path / ASIDE).glob("*.png")):
        if plot.stat().st_size <= _PLOT_BYTES:
            picture = base64.b64encode(plot.read_bytes()).decode()
            name = f"{plot.stem}_plot" if plot.stem in artifact.metadata else plot.stem
            found[name] = dg.MetadataValue.md(f"![{plot.stem}](data:image/png;base64,{picture})")
    return found


def _logged(progress: Progress, log: Callable[[str], None], every: float = 15.0) -> Progress:
    """Progress that also reaches the run's log, at most every `every` seconds."""
    last = [time.monotonic()]

    def report(done: int, total: int, note: str) -> None:
        progress(done, total, note)
        if time.monotonic() - last[0] >= every:
            last[0] = time.monotonic()
            log(f"{note}: {done}/{total}")

    return report
