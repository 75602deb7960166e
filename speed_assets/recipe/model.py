"""The recipe: its sections, its graph, and its digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from typing_extensions import override

from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import (
    DataSource,
    Graph,
    OwnShape,
    Shape,
    Stage,
    build_graph,
    with_task_types,
    written_by,
)
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, GROUNDED_AS, TASK_TYPE_NAMES, TaskTypeName
from speed_assets.recipe.fingerprint_parts import MEMORY_FIELDS, part, published
from speed_assets.recipe.rules import RULED, broken_recipe_rules
from speed_assets.recipe.section import RECIPE_NAME, PerTaskType, Section
from speed_assets.recipe.sections.answers_section import Answers
from speed_assets.recipe.sections.checks import Checks, Licences
from speed_assets.recipe.sections.corpus_section import Corpus, GroundedQueries, GroundedShares
from speed_assets.recipe.sections.embedding_section import EmbeddingModel, EmbeddingReruns, Evaluation, MtebScores
from speed_assets.recipe.sections.examples_section import Examples
from speed_assets.recipe.sections.filters import FinalTriplets
from speed_assets.recipe.sections.generators import Generator, PreferenceTraining, Revisor, Training
from speed_assets.recipe.sections.given_section import Given
from speed_assets.recipe.sections.grounded_rows_section import GroundedRows
from speed_assets.recipe.sections.languages_section import Languages, languages_named
from speed_assets.recipe.sections.own_evaluation_section import OwnEvaluation, Pooled
from speed_assets.recipe.sections.runtime import Rehearsal, Runtime, Study
from speed_assets.recipe.sections.scores_section import MinedNegatives, RerankerScores, RowScores, RowVerdicts
from speed_assets.recipe.sections.tables_section import (
    JuniorData,
    PreferencePairs,
    RevisedData,
    RevisionData,
    SeedData,
    SeniorData,
)
from speed_assets.recipe.sections.teacher_section import Calls, Money, Teacher
from speed_assets.recipe.sections.topics_section import Prompts, TaskList, Topics
from speed_assets.recipe.view import RecipeView

ROW_COUNTS = (
    ("seed_data", "rows"),
    ("junior_data", "prompts"),
    ("preference_pairs", "prompts"),
    ("senior_data", "rows"),
    ("revision_data", "rows"),
    ("row_verdicts", "rows"),
)
"""Sections that ask for rows by task type, and the field that says how many."""


class Recipe(Section):
    name: Annotated[str, Field(pattern=RECIPE_NAME)]
    """Name of the recipe: folders, links and releases have it."""
    description: str
    """What the recipe is for, in a sentence. Only the fingerprint of a release contains it."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """The seed that every named seed of the run is derived from."""
    topics: Topics
    """Topic files, and the tree that the teacher grows from them."""
    corpus: Corpus | None = None
    queries: GroundedQueries = GroundedQueries()
    grounded_rows: GroundedRows = GroundedRows()
    examples: Examples | None = None
    languages: Languages | None = None
    given: Given | None = None
    prompts: Prompts
    """Which prompts the loop asks with."""
    teacher: Teacher
    """The model that writes, judges and revises by API calls: its server and how it is asked."""
    calls: Calls = Calls()
    money: Money = Money()
    answers: Answers = Answers()
    generator: Generator | None = None
    """Base model of junior, senior and revisor, and how it generates; null in a recipe without them."""
    task_list: TaskList
    """Tasks that the teacher brainstorms for the topics."""
    seed_data: SeedData
    """Examples that the teacher writes, from which the junior learns."""
    junior_model: Training | None = None
    """SFT of the junior on seed_data."""
    junior_data: JuniorData | None = None
    """Candidates that the junior writes."""
    preference_pairs: PreferencePairs | None = None
    """Pairs of candidates that the teacher prefers and rejects."""
    senior_model: PreferenceTraining | None = None
    """DPO of the junior on preference_pairs, which gives the senior."""
    senior_data: SeniorData | None = None
    """Rows at scale that the senior writes."""
    revision_data: RevisionData | None = None
    """Junior outputs that the teacher revises."""
    revisor_model: Revisor | None = None
    """SFT of the revisor on revision_data."""
    revised_data: RevisedData | None = None
    """Rows of senior_data that the revisor corrects."""
    row_scores: RowScores | None = None
    row_verdicts: RowVerdicts | None = None
    final_triplets: FinalTriplets
    """Filters and quarantine between written rows and training triplets."""
    mined_negatives: MinedNegatives | None = None
    reranker_scores: RerankerScores | None = None
    embedding_model: EmbeddingModel
    """The embedding model and its contrastive training on the triplets."""
    embedding_reruns: EmbeddingReruns = EmbeddingReruns()
    """Further trainings of the embedding model under other seeds."""
    evaluation: Evaluation = Evaluation()
    """What the embedding model is evaluated on."""
    own_evaluation: OwnEvaluation | None = None
    mteb_scores: MtebScores
    """What the embedding model is compared with."""
    release: Licences = Licences()
    checks: Checks = Checks()
    study: Study = Study()
    rehearsal: Rehearsal | None = None
    runtime: Runtime = Runtime()

    @model_validator(mode="before")
    @classmethod
    def _grounded(cls, data: Any) -> Any:
        """`corpus.share` of the retrieval rows of each stage become grounded rows, and `corpus.shares` of other task types, where no
        number of those is given."""
        corpus = data.get("corpus") if isinstance(data, Mapping) else None
        if not isinstance(corpus, Mapping):
            return data
        shares, data = _shares(corpus), dict(data)
        if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares.values()):
            return data  # told by the section itself
        for name, field in ROW_COUNTS:
            if isinstance(section := data.get(name), Mapping):
                data[name] = _with_grounded(section, field, shares)
        triplets = data.get("final_triplets")
        if isinstance(triplets, Mapping) and isinstance(wanted := triplets.get("wanted"), Mapping):
            wanted = _with_grounded(_with_grounded(wanted, "rows", shares), "candidates_max", shares)
            data["final_triplets"] = {**triplets, "wanted": wanted}
        return data

    @model_validator(mode="before")
    @classmethod
    def _rules_of_languages(cls, data: Any) -> Any:
        """Where rows are drawn in languages, and rules name none, those are the languages of the rules."""
        drawn = languages_named(data.get("languages")) if isinstance(data, Mapping) else []
        if not drawn:
            return data
        data = dict(data)
        for name in RULED:
            section = data.get(name)
            rules = section.get("rules") if isinstance(section, Mapping) else None
            if name == "final_triplets" and isinstance(section, Mapping) and rules is None:
                rules = {}
            if isinstance(rules, Mapping) and "languages" not in rules:
                data[name] = {**section, "rules": {**rules, "languages": drawn}}
        return data

    @model_serializer(mode="wrap")
    @override
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what does not count: recipes of before have the digests that they had."""
        dumped: dict[str, Any] = dump(self)
        for name in ("corpus", "queries") if self.corpus is None else ():
            dumped.pop(name, None)
        if self.grounded_rows == GroundedRows():
            dumped.pop("grounded_rows", None)
        for name in ("own_evaluation", "examples", "languages", "given", "reranker_scores"):
            if getattr(self, name) is None:
                dumped.pop(name, None)
        return dumped if self.corpus is None else _with_zeros(dumped, _shares(dict(self.corpus)))

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        if problems := broken_recipe_rules(self):
            raise ValueError("; ".join(problems))
        return self

    def graph(self) -> Graph:
        """The stages of this recipe, with the task types of which it asks for rows. Raises ValueError when it asks for none."""
        answers = self.examples.answers if self.examples else None
        shape = Shape(
            source=self.final_triplets.source,
            writer=self.senior_data.writer if self.senior_data else "senior_model",
            baselines=self.mteb_scores.baselines,
            expanded=self.topics.expand is not None,
            scored=self.row_scores is not None,
            judged=self.row_verdicts is not None,
            embedded=bool(self.row_scores and self.row_scores.embedder),
            searched=bool(self.evaluation.searched),
            mined=self.mined_negatives is not None,
            reranked=self.embedding_model.distil is not None and self.embedding_model.distil.source == "reranker",
            # A model that is not trained has no other seeds.
            reruns=self.embedding_reruns.count > 0 and "embedding_model" not in self.given_names(),
            corpus=self.corpus is not None,
            given_texts=bool(self.given_text_types()),
            own_evaluation=self.own_evaluation is not None,
            own=self.own_evaluation.shape() if self.own_evaluation else OwnShape(),
            examples=self.examples is not None,
            languages=self.languages is not None,
            answered=answers is not None,
            answered_by_base=answers is not None and answers.untrained,
            given=self.given_names(),
            rehearsed=self.rehearsal is not None,
        )
        asked = {
            stage: [name for name in TASK_TYPE_NAMES if getattr(wanted, name)]
            for stage, wanted in self.rows_by_stage().items()
        }
        return with_task_types(build_graph(shape), asked)

    def pools(self) -> dict[str, Pooled]:
        """The sections that say how results are pooled, by their field."""
        own = self.own_evaluation.pooled if self.own_evaluation else None
        answers = self.examples.answers if self.examples else None
        found = {"own_evaluation.pooled": own, "examples.answers": answers}
        return {field: pooled for field, pooled in found.items() if pooled is not None}

    def given_names(self) -> tuple[str, ...]:
        """Stages in whose place the user gives something."""
        return self.given.names() if self.given else ()

    def asks_teacher(self) -> bool:
        """Whether any stage of the graph sends requests to the teacher."""
        return any(stage.asks_teacher for stage in self.graph().values())

    def rows_by_stage(self) -> dict[str, PerTaskType]:
        """How many rows of each task type the sections that are there ask for."""
        return {
            name: getattr(section, field) for name, field in ROW_COUNTS if (section := getattr(self, name)) is not None
        }

    def given_text_types(self) -> tuple[TaskTypeName, ...]:
        """Task types whose given text is a passage, of which any stage is asked for rows."""
        wanted = self.rows_by_stage().values()
        return tuple(name for name in GIVEN_TEXT_TYPES if any(getattr(rows, name) for rows in wanted))

    def rows_wanted(self, task_type: str) -> dict[str, int]:
        """Rows of a task type by the stage that asks for them with prompts of its own; only stages of this recipe."""
        graph = self.graph()
        wanted = {"seed_data": self.seed_data.rows} if "seed_data" in graph else {}
        if self.junior_data and "junior_data" in graph:
            wanted["junior_data"] = self.junior_data.prompts
        if self.senior_data and "senior_data" in graph:
            wanted["senior_data"] = self.senior_data.rows
        return {stage: int(getattr(rows, task_type)) for stage, rows in wanted.items()}

    def part(self, stage: Stage, task_type: str | None = None) -> dict[str, Any]:
        """What the fingerprint of `stage` contains of this recipe, as plain JSON values (`fingerprint_parts.part`)."""
        return part(self, stage, task_type)

    def published(self) -> dict[str, Any]:
        """What a release states of this recipe, as plain JSON values (`fingerprint_parts.published`)."""
        return published(self)

    def digest(self) -> str:
        """sha256 over everything in the recipe that shapes a result."""
        memory = {name: set(MEMORY_FIELDS) for name in type(self).model_fields if name.endswith("_model")}
        without = dict.fromkeys(("runtime", "description", "calls", "money", "study"), True)
        return digest(self.model_dump(mode="json", exclude={**without, **memory}))


def _shares(corpus: Mapping[str, Any]) -> dict[TaskTypeName, Any]:
    """By task type: the share of its rows that is written from passages."""
    others = corpus.get("shares", {})
    if isinstance(others, GroundedShares):
        others = others.model_dump()
    found: dict[TaskTypeName, Any] = {"retrieval": corpus.get("share", Corpus.model_fields["share"].default)}
    if isinstance(others, Mapping):
        found |= {name: others[name] for name in GROUNDED_AS if name in others}
    return found


def _with_grounded(section: Mapping[str, Any], field: str, shares: Mapping[TaskTypeName, float]) -> Mapping[str, Any]:
    """A section, in whose numbers of rows these shares of the rows about topics are grounded, where it says nothing of those."""
    rows = section.get(field)
    if not isinstance(rows, Mapping):
        return section
    changed = dict(rows)
    for name, share in shares.items():
        if GROUNDED_AS[name] not in rows and isinstance(rows.get(name), int):
            grounded = round(share * rows[name])
            changed |= {name: rows[name] - grounded, GROUNDED_AS[name]: grounded}
    return {**section, field: changed}


def _with_zeros(dumped: dict[str, Any], shares: Mapping[TaskTypeName, float]) -> dict[str, Any]:
    """A dumped recipe that says 0 of grounded rows wherever its reader would take a share of the others for them."""
    counts = [(dumped.get(name), field) for name, field in ROW_COUNTS]
    wanted = (dumped.get("final_triplets") or {}).get("wanted")
    for section, field in [*counts, (wanted, "rows"), (wanted, "candidates_max")]:
        if not isinstance(section, dict) or not isinstance(rows := section.get(field), dict):
            continue
        filled_in = _with_grounded(section, field, shares)[field]
        rows |= {name: 0 for name in filled_in.keys() - rows.keys() if filled_in[name]}
    return dumped


def rows_asked(sections: Recipe | RecipeView, source: DataSource) -> PerTaskType:
    """How many rows of each task type were asked for.

    Args:
        sections: those of a recipe, or what a stage may read of them.
        source: the table that final_triplets is made from.
    """
    section: SeedData | JuniorData | SeniorData = getattr(sections, written_by(source))
    return section.prompts if isinstance(section, JuniorData) else section.rows
