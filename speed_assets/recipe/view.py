"""The sections of a recipe that one stage may read, with their types.

Belongs here: giving out those sections and no others. Not here: which ones a stage reads (`domain/graph/stages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from speed_assets.recipe.sections.answers_section import Answers
from speed_assets.recipe.sections.checks import Checks, Licences
from speed_assets.recipe.sections.corpus_section import Corpus, GroundedQueries
from speed_assets.recipe.sections.embedding_section import EmbeddingModel, EmbeddingReruns, Evaluation, MtebScores
from speed_assets.recipe.sections.examples_section import Examples
from speed_assets.recipe.sections.filters import FinalTriplets
from speed_assets.recipe.sections.generators import Generator, PreferenceTraining, Revisor, Training
from speed_assets.recipe.sections.given_section import Given
from speed_assets.recipe.sections.grounded_rows_section import GroundedRows
from speed_assets.recipe.sections.languages_section import Languages
from speed_assets.recipe.sections.own_evaluation_section import OwnEvaluation
from speed_assets.recipe.sections.runtime import Rehearsal, Runtime
from speed_assets.recipe.sections.scores_section import MinedNegatives, RerankerScores, RowScores, RowVerdicts
from speed_assets.recipe.sections.tables_section import (
    JuniorData,
    PreferencePairs,
    RevisedData,
    RevisionData,
    SeedData,
    SeniorData,
)
from speed_assets.recipe.sections.teacher_section import Teacher
from speed_assets.recipe.sections.topics_section import Prompts, TaskList, Topics

if TYPE_CHECKING:
    from speed_assets.recipe.model import Recipe


class RecipeView:
    """The sections of a recipe that a stage may read; any other raises AttributeError, since no fingerprint contains it.

    A section that a recipe may leave out is there wherever its stage is, so its type is never optional; `generator` is None
    in a recipe without generators, whose stages but `release` do not read it. The test `test_recipe_view_has_the_types`
    compares these types with those of `Recipe`.
    """

    name: str
    description: str
    seed: int
    topics: Topics
    corpus: Corpus
    queries: GroundedQueries
    grounded_rows: GroundedRows
    examples: Examples
    languages: Languages
    given: Given
    prompts: Prompts
    teacher: Teacher
    answers: Answers
    generator: Generator
    task_list: TaskList
    seed_data: SeedData
    junior_model: Training
    junior_data: JuniorData
    preference_pairs: PreferencePairs
    senior_model: PreferenceTraining
    senior_data: SeniorData
    revision_data: RevisionData
    revisor_model: Revisor
    revised_data: RevisedData
    row_scores: RowScores
    row_verdicts: RowVerdicts
    final_triplets: FinalTriplets
    mined_negatives: MinedNegatives
    reranker_scores: RerankerScores
    embedding_model: EmbeddingModel
    embedding_reruns: EmbeddingReruns
    evaluation: Evaluation
    own_evaluation: OwnEvaluation
    mteb_scores: MtebScores
    release: Licences
    checks: Checks
    rehearsal: Rehearsal
    runtime: Runtime
    rows_wanted: Callable[[str], dict[str, int]]
    """`Recipe.rows_wanted`, for stages that list it among their externals."""

    def __init__(self, recipe: Recipe, stage: str, names: Iterable[str]) -> None:
        """`names` are those of the sections that `stage` may read."""
        self._recipe = recipe
        self._stage = stage
        self._names = frozenset(names)

    if not TYPE_CHECKING:  # a type checker is to find a misspelt section

        def __getattr__(self, section: str) -> Any:
            if section not in self._names:
                raise AttributeError(f"stage {self._stage} does not list recipe section `{section}` among its reads")
            return getattr(self._recipe, section)
