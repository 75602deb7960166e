"""One YAML file -> one frozen `Recipe`: every number that shapes a result, with its unit and source.

A section has the name of the asset that reads it.

    paths                where the project and its recipes are
    section              the base class of sections and the types of their numbers
    sections/            the sections, by concern
    model                the recipe: all sections, and the graph that follows from them
    rules                what must be true between sections, one function a rule
    fingerprint_parts    what a fingerprint contains of a recipe, and what a release publishes of it
    view                 the sections that one stage may read
    extending            recipes that extend others
    demonstration        whether a recipe writes a toy language
    reading              YAML in, errors that say what to change
    changed_fields       fields that are changed for one run
    field_texts          what each field means

Belongs here: the names that other packages import. Not here: what a stage does with a number.
"""

from speed_assets.recipe.changed_fields import changes_in_words, changes_of, with_changes
from speed_assets.recipe.demonstration import IN_TOY_LANGUAGE, demonstration_notice
from speed_assets.recipe.extending import shipped_recipes
from speed_assets.recipe.fingerprint_parts import UNFINGERPRINTED, without_places
from speed_assets.recipe.model import ROW_COUNTS, Recipe, rows_asked
from speed_assets.recipe.paths import DEFAULT_RECIPE, INSTALLED, PROJECT, RECIPES, SHIPPED
from speed_assets.recipe.reading import find_recipe, load_recipe, parse_recipe, read_yaml, shipped_files
from speed_assets.recipe.recipe_error import RecipeError
from speed_assets.recipe.rules import RULED
from speed_assets.recipe.section import RECIPE_NAME, PerTaskType, Section
from speed_assets.recipe.sections.answers_section import Answers, Sampling
from speed_assets.recipe.sections.checks import Checks, Licences, NonInferior, OwnGain, Superior
from speed_assets.recipe.sections.corpus_section import Corpus, CorpusDataset, GroundedQueries, GroundedShares
from speed_assets.recipe.sections.embedding_section import (
    EmbeddingModel,
    EmbeddingReruns,
    Evaluation,
    Microworld,
    MtebScores,
)
from speed_assets.recipe.sections.examples_section import Examples
from speed_assets.recipe.sections.filters import (
    READMITTABLE,
    Calibration,
    Contamination,
    Diversity,
    FinalTriplets,
    NearDuplicates,
    Readmit,
    Rules,
    Scores,
    Wanted,
)
from speed_assets.recipe.sections.generators import Generator, Lora, PreferenceTraining, Revisor, Training
from speed_assets.recipe.sections.given_section import Given, GivenModel, GivenTriplets
from speed_assets.recipe.sections.grounded_rows_section import GroundedRows
from speed_assets.recipe.sections.languages_section import Languages
from speed_assets.recipe.sections.own_evaluation_section import OwnEvaluation, Pooled
from speed_assets.recipe.sections.runtime import Cluster, Lanes, Rehearsal, Runtime, Study
from speed_assets.recipe.sections.scores_section import (
    Embedder,
    MinedNegatives,
    RerankerScores,
    RowScores,
    RowVerdicts,
)
from speed_assets.recipe.sections.tables_section import (
    JuniorData,
    PreferencePairs,
    RevisedData,
    RevisionData,
    SeedData,
    SeniorData,
)
from speed_assets.recipe.sections.teacher_section import (
    Calls,
    Cap,
    Money,
    NonAnswers,
    Price,
    Prices,
    Teacher,
    TeacherDialect,
)
from speed_assets.recipe.sections.topics_section import Expand, Prompts, TaskList, Topics
from speed_assets.recipe.view import RecipeView

__all__ = [
    "DEFAULT_RECIPE",
    "INSTALLED",
    "IN_TOY_LANGUAGE",
    "PROJECT",
    "READMITTABLE",
    "RECIPES",
    "RECIPE_NAME",
    "ROW_COUNTS",
    "RULED",
    "SHIPPED",
    "UNFINGERPRINTED",
    "Answers",
    "Calibration",
    "Calls",
    "Cap",
    "Checks",
    "Cluster",
    "Contamination",
    "Corpus",
    "CorpusDataset",
    "Diversity",
    "Embedder",
    "EmbeddingModel",
    "EmbeddingReruns",
    "Evaluation",
    "Examples",
    "Expand",
    "FinalTriplets",
    "Generator",
    "Given",
    "GivenModel",
    "GivenTriplets",
    "GroundedQueries",
    "GroundedRows",
    "GroundedShares",
    "JuniorData",
    "Lanes",
    "Languages",
    "Licences",
    "Lora",
    "Microworld",
    "MinedNegatives",
    "Money",
    "MtebScores",
    "NearDuplicates",
    "NonAnswers",
    "NonInferior",
    "OwnEvaluation",
    "OwnGain",
    "PerTaskType",
    "Pooled",
    "PreferencePairs",
    "PreferenceTraining",
    "Price",
    "Prices",
    "Prompts",
    "Readmit",
    "Recipe",
    "RecipeError",
    "RecipeView",
    "Rehearsal",
    "RerankerScores",
    "RevisedData",
    "RevisionData",
    "Revisor",
    "RowScores",
    "RowVerdicts",
    "Rules",
    "Runtime",
    "Sampling",
    "Scores",
    "Section",
    "SeedData",
    "SeniorData",
    "Study",
    "Superior",
    "TaskList",
    "Teacher",
    "TeacherDialect",
    "Topics",
    "Training",
    "Wanted",
    "changes_in_words",
    "changes_of",
    "demonstration_notice",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "read_yaml",
    "rows_asked",
    "shipped_files",
    "shipped_recipes",
    "with_changes",
    "without_places",
]
