"""What the function of a stage gets: its section, its prompts, its inputs, and where to write.

Belongs here: everything that a stage may read or use. Not here: fingerprints and reuse (`stage.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import polars as pl

from resources.compute.runner import Runner
from resources.inputs.prompt_files import prompt_set
from resources.ledger.calls import CallContext, TeacherAnswer
from resources.progress import Progress
from resources.redaction import masked_table
from resources.store.store import PARQUET_OPTIONS, SCRATCH_DIR, UNHASHED_DIR, Artifact, Store
from resources.teacher.teacher import Teacher
from resources.teacher.teacher_use import TeacherUse
from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.attributes import ATTRIBUTES
from speed_assets.domain.graph import PASSAGES, Graph, Stage, reads_own_section
from speed_assets.domain.prompts import PromptKind, PromptSet
from speed_assets.domain.row_languages import Languages
from speed_assets.domain.rows import quarantined
from speed_assets.domain.task_types import GROUNDED, TASK_TYPE_NAMES
from speed_assets.recipe import Recipe, RecipeView, Sampling

Inputs = Mapping[str, Mapping[str | None, Artifact]]
Upstream = Callable[[], Iterable[tuple[Stage, str | None, Artifact]]]
Own = TypeVar("Own")
"""The type of a stage's own section; None where the stage has none."""


@dataclass
class StageRun(Generic[Own]):
    """What the function of a stage gets. It writes files below `out` and returns plain metadata.

    Of the recipe it gets what its line in `domain/graph/stages.py` lists, and nothing else.
    """

    stage: Stage
    partition: str | None
    recipe: RecipeView
    """The sections that the stage's fingerprint contains."""
    unfingerprinted: RecipeView
    """The sections of `Stage.unfingerprinted`: no byte of the artifact follows from them."""
    lineage: Mapping[str, Any]
    """All that the fingerprint is made of, as plain values (`Artifacts.lineage`)."""
    inputs: Inputs
    out: Path
    graph: Graph
    store: Store
    upstream: Upstream
    """Everything that the artifact is made from, directly or not: stage, task type, artifact."""
    runner: Runner
    teacher: Teacher
    context: CallContext
    progress: Progress
    multilingual: bool = False
    """Whether prompts say languages; the digests of prompts contain it."""
    given: Any = None
    """What the user gives in the place of this artifact (`GivenModel`, `GivenTriplets`)."""
    dry: bool = False
    """Whether a plan makes this to count calls, and throws it away: then nothing is plotted."""
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        stage: Stage,
        partition: str | None,
        *,
        inputs: Inputs,
        out: Path,
        store: Store,
        runner: Runner,
        teacher: Teacher,
        context: CallContext,
        progress: Progress,
        lineage: Mapping[str, Any] | None = None,
        upstream: Upstream = lambda: (),
        dry: bool = False,
    ) -> StageRun[Any]:
        """The run of a stage under a recipe.

        Args:
            recipe: the complete recipe; the run gets the sections that the stage lists.
            stage, partition: the artifact that is made.
            inputs, out, store, runner, teacher, context, progress, upstream, dry: as the fields.
            lineage: as the field; None is an empty one.
        """
        own = (stage.name,) if reads_own_section(stage) else ()
        return cls(
            stage=stage,
            partition=partition,
            recipe=RecipeView(recipe, stage.name, {*stage.reads, *stage.externals, *own}),
            unfingerprinted=RecipeView(recipe, stage.name, stage.unfingerprinted),
            lineage=lineage or {},
            inputs=inputs,
            out=out,
            graph=recipe.graph(),
            store=store,
            upstream=upstream,
            runner=runner,
            teacher=teacher,
            context=context,
            progress=progress,
            multilingual=recipe.languages is not None,
            given=getattr(recipe.given, stage.name) if stage.given else None,
            dry=dry,
        )

    @property
    def section(self) -> Own:
        """The stage's own section of the recipe."""
        return cast(Own, getattr(self.recipe, self.stage.name))

    @property
    def languages(self) -> Languages | None:
        """What languages rows are drawn in; None in a recipe that draws none. Raises AttributeError for a stage that may not read them."""
        return self.recipe.languages.drawn() if self.multilingual else None

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompts that the stage asks with. Raises RecipeError."""
        return prompt_set(self.recipe.prompts, self.multilingual)

    @property
    def scratch(self) -> Path:
        """For journals and checkpoints: kept while the stage is unfinished, dropped when it is complete."""
        return self.out / SCRATCH_DIR

    @property
    def unhashed(self) -> Path:
        """A folder of the artifact that its digest leaves out: plots, and what later runs reuse."""
        folder = self.out / UNHASHED_DIR
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def externals(self) -> Mapping[str, str]:
        """{external: digest}, as in the fingerprint."""
        found: Mapping[str, str] = self.lineage["externals"]
        return found

    @property
    def task_type(self) -> str:
        """The task type of the artifact."""
        assert self.partition is not None, f"{self.stage.name} is not partitioned by task type"
        return self.partition

    def input(self, name: str) -> Artifact:
        """The one artifact of an input: unpartitioned, of this partition, or the passages, which are of all rows that are written from
        them."""
        group = self.inputs[name]
        if name == PASSAGES:
            return group[GROUNDED]
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
            sample: number of a further answer to the same prompt; 0 is the first.
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
        """Write a table of the artifact, known secrets masked."""
        self.tables[name] = frame = masked_table(frame)
        frame.write_parquet(self.out / f"{name}.parquet", **PARQUET_OPTIONS)

    def quarantine(self, rows: pl.DataFrame, reason: pl.Expr, detail: pl.Expr, raw: pl.Expr) -> None:
        """Write the quarantine of the artifact.

        Args:
            rows: what was rejected.
            reason: the code of why.
            detail: why, in words.
            raw: the text that was rejected.
        """
        self.write(quarantined(rows, self.stage.name, self.partition, reason, detail, raw), "quarantine")


StageFunction = Callable[[StageRun[Any]], dict[str, Any]]
"""The function of a stage: it writes the artifact, and returns its metadata as plain values."""
