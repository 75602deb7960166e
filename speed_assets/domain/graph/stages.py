"""The loop as data: every artifact, what it is made from and what it reads of the recipe.

One `Stage` per asset. From this table come the Dagster dependencies, the fingerprints, the code
versions shown in the UI and the plan, so they cannot disagree. The function of a stage gets exactly the
recipe sections listed here: those of its fingerprint, and apart from them those of `unfingerprinted`.

Belongs here: names, edges, versions. Not here: what a stage does (`speed_assets/assets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from speed_assets.domain.task_types import GROUNDED, TASK_TYPE_NAMES, TOPIC_TYPES

Kind = Literal["texts", "table", "model", "scores", "release"]
DataSource = Literal["revised_data", "senior_data", "junior_data", "seed_data"]
Writer = Literal["senior_model", "junior_model"]

GROUPS = ("tasks", "junior", "senior", "revisor", "triplets", "embedding", "release")
"""The parts of the loop, in its order."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One artifact of the loop, or one for each of its `task_types`.

    `reads` names recipe sections; a stage also reads the section of its own name if there is one.
    `unfingerprinted` names sections that its fingerprint leaves out, since no byte of the artifact follows from them: they set
    its pace, stop it, or word a figure next to it.
    `externals` names things outside recipe and graph whose digest counts (see `resources/inputs/external_digests.py`).
    `takes` names the part of task_list or passages that it reads, if not all of it: then only that part is in its fingerprint.
    `gathers` makes it a second end of the graph, next to the release: its inputs are all stages of that kind that the
    release needs, and no stage reads it. `given` says that the user gives the artifact (`given_stages.py`).
    Raise `version` when the stage's code changes what it writes. `gpu` stages run one at a time where there is a GPU.
    """

    name: str
    group: str
    kind: Kind
    description: str
    inputs: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    unfingerprinted: tuple[str, ...] = ()
    externals: tuple[str, ...] = ()
    takes: Literal["alignment", "synthesis", "held_out"] | None = None
    gathers: Kind | None = None
    given: bool = False
    gpu: bool = False
    version: int = 1

    def group_of(self, task_type: str | None) -> str:
        """The group of an artifact in the asset graph: its part of the loop, in order, and in it a box for its task types.

        A node shows the last part of its key alone, so the box around task types has the name of their stage.
        """
        part = f"{GROUPS.index(self.group) + 1}_{self.group}"
        return f"{part}/{self.name}" if task_type else part

    @property
    def partitioned(self) -> bool:
        """Whether there is an artifact for each task type."""
        return bool(self.task_types)

    @property
    def asks_teacher(self) -> bool:
        """Whether the stage sends requests to the teacher; a release only states which teacher it was."""
        return self.kind == "table" and "teacher" in self.reads


_TEACHER = ("seed", "teacher", "prompts", "answers")
_GENERATOR = ("seed", "generator", "prompts", "answers")
_WRITES = ("runtime", "teacher")
"""Pace of the generation, and whether the microworld can count the rows that are right."""
_TRAINS = ("runtime", "checks")
"""Pace of the training, and from which numbers on it is too short or not started."""

_STATED = (
    "name", "description", "seed", "topics", "prompts", "teacher", "answers", "generator", "task_list", "seed_data",
    "junior_model", "junior_data", "preference_pairs", "senior_model", "senior_data", "revision_data", "revisor_model",
    "revised_data", "row_scores", "row_verdicts", "final_triplets", "mined_negatives", "embedding_model",
    "embedding_reruns", "evaluation", "mteb_scores", "checks", "rehearsal",
)  # fmt: skip
"""What cards, manifest and recipe.json of a release state: all but pace and price."""

SCORING_LIBRARIES = ("mteb", "sentence-transformers", "transformers", "torch")
"""Packages whose versions shape a score: with other versions, models are scored again, as such scores are not compared."""

EVALUATION_TEXTS = "evaluation_texts"
PASSAGES = "passages"
ALIGNMENT = "alignment"
"""Part of the tasks and passages that generators are aligned on; the table of passages of documents that are for that alone."""
EXAMPLES = "examples"
OWN_EVALUATION = "own_evaluation"
RERANKER_SCORES = "reranker_scores"


ALL_STAGES: tuple[Stage, ...] = (
    Stage(
        EVALUATION_TEXTS,
        "tasks",
        "texts",
        "Texts of the mteb tasks that the model is scored on; rows that repeat one are quarantined. Costs no teacher call.",
        reads=("evaluation",),
        externals=("mteb_version",),
    ),
    Stage(
        "topics",
        "tasks",
        "table",
        "Topic paths of the user's file, shortened to four levels. Lines that are refused go to the quarantine.",
        externals=("topic_file",),
        version=3,
    ),
    Stage(
        "topic_tree",
        "tasks",
        "table",
        "The topics and their subtopics, which the teacher names level by level. Subtopics that repeat another are quarantined.",
        ("topics",),
        reads=(*_TEACHER, "topics"),
        externals=("prompt:expand",),
    ),
    Stage(
        "task_list",
        "tasks",
        "table",
        "Tasks for the topics that rows are drawn for: the teacher brainstorms them and rules check them. For STS the topic is the task.",
        ("topic_tree",),
        task_types=TOPIC_TYPES,
        reads=_TEACHER,
        externals=("prompt:brainstorm", "rows_wanted"),
        version=6,
    ),
    Stage(
        PASSAGES,
        "tasks",
        "table",
        "Passages of the user's documents, cut to a budget of tokens. Some documents are held out; repeats are quarantined.",
        task_types=(GROUNDED,),
        reads=("seed", "corpus"),
        unfingerprinted=("embedding_model",),
        externals=("corpus_files", "embedding_base", "rows_wanted"),
        version=3,
    ),
    Stage(
        EXAMPLES,
        "tasks",
        "table",
        "The user's own queries and pairs. Complete ones stand in for the teacher's examples; others are shown to it.",
        task_types=TASK_TYPE_NAMES,
        externals=("examples_file",),
    ),
    Stage(
        OWN_EVALUATION,
        "embedding",
        "table",
        "The user's own retrieval sets in BEIR's layout: queries of the teacher for held-out documents, and queries that the user has judged.",
        (PASSAGES,),
        reads=(*_TEACHER, "queries"),
        externals=("prompt:synthesis",),
        takes="held_out",
        version=3,
    ),
    Stage(
        "seed_data",
        "junior",
        "table",
        "Examples that the teacher writes. The junior generator is trained on them.",
        ("task_list",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:synthesis",),
        takes="alignment",
        version=9,
    ),
    Stage(
        "junior_model",
        "junior",
        "model",
        "Junior generator: the base model after supervised fine-tuning on seed_data.",
        ("seed_data",),
        reads=_GENERATOR,
        unfingerprinted=_TRAINS,
        externals=("generator_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "junior_data",
        "junior",
        "table",
        "Rows that the junior generator writes: several candidates for each prompt.",
        ("task_list", "junior_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        unfingerprinted=_WRITES,
        externals=("prompt:synthesis",),
        takes="alignment",
        version=6,
        gpu=True,
    ),
    Stage(
        "preference_pairs",
        "senior",
        "table",
        "The best and the worst candidate of each prompt. The teacher judges them in several orders.",
        ("junior_data",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:judge",),
        version=6,
    ),
    Stage(
        "senior_model",
        "senior",
        "model",
        "Senior generator: the junior generator after DPO on preference_pairs.",
        ("junior_model", "preference_pairs"),
        reads=_GENERATOR,
        unfingerprinted=_TRAINS,
        gpu=True,
        version=3,
    ),
    Stage(
        "senior_data",
        "senior",
        "table",
        "Rows that the senior generator writes at scale. Without DPO the junior generator writes them.",
        ("task_list", "senior_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        unfingerprinted=_WRITES,
        externals=("prompt:synthesis",),
        takes="synthesis",
        version=6,
        gpu=True,
    ),
    Stage(
        "revision_data",
        "revisor",
        "table",
        "The teacher's verdicts on the junior generator's rows, and its revisions of them.",
        ("junior_data",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:revise",),
        version=6,
    ),
    Stage(
        "revisor_model",
        "revisor",
        "model",
        "Data revisor: the base model after supervised fine-tuning on revision_data.",
        ("revision_data",),
        reads=_GENERATOR,
        unfingerprinted=_TRAINS,
        externals=("generator_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "revised_data",
        "revisor",
        "table",
        "senior_data after the data revisor's changes. Each row keeps its text before the change, and the doubt that is left.",
        ("senior_data", "revisor_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        unfingerprinted=_WRITES,
        externals=("prompt:revise",),
        version=8,
        gpu=True,
    ),
    Stage(
        "row_scores",
        "triplets",
        "table",
        "Scores of each row: the generator's log-probability of its least likely token, and its agreement with models trained on other rows.",
        ("revised_data", "senior_model", EVALUATION_TEXTS),
        reads=("seed", "generator", "evaluation"),
        unfingerprinted=("teacher",),
        externals=("generator_base", "scores_embedder", "evaluation_sets", "evaluation_texts"),
        gpu=True,
        version=2,
    ),
    Stage(
        "row_verdicts",
        "triplets",
        "table",
        "The teacher's verdicts on a sample of the rows. They calibrate the score from which on a row is quarantined.",
        ("revised_data", "row_scores"),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:revise",),
        version=5,
    ),
    Stage(
        "final_triplets",
        "triplets",
        "table",
        "Training triplets. Near-duplicates, contaminated rows and faulty rows are quarantined.",
        ("revised_data", "row_scores", "row_verdicts", "task_list", EVALUATION_TEXTS),
        reads=("seed", "evaluation", "senior_data"),
        unfingerprinted=("teacher", "prompts"),
        externals=("evaluation_sets", "evaluation_texts"),
        takes="synthesis",
        version=14,
    ),
    Stage(
        "mined_negatives",
        "triplets",
        "table",
        "Hard negatives, mined from the positives of other rows, or from passages of other documents. The teacher decides where one may be a right answer.",
        ("final_triplets",),
        reads=_TEACHER,
        externals=("prompt:judge", "negatives_embedder"),
        gpu=True,
        version=5,
    ),
    Stage(
        RERANKER_SCORES,
        "triplets",
        "table",
        "Scores that a reranker gives each row's positive and negatives. The embedding model learns their margins.",
        ("final_triplets", "mined_negatives"),
        externals=("reranker",),
        gpu=True,
    ),
    Stage(
        "quarantine",
        "triplets",
        "table",
        "Every row that a stage rejected, with its reason and its text. No other asset reads this table.",
        gathers="table",
    ),
    Stage(
        "embedding_model",
        "embedding",
        "model",
        "Embedding model: the base model after contrastive fine-tuning on final_triplets.",
        ("final_triplets", "mined_negatives"),
        reads=("seed",),
        unfingerprinted=("runtime",),
        externals=("embedding_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "baseline_models",
        "embedding",
        "model",
        "Baselines: the same embedding training on data that skips part of the loop.",
        ("seed_data", "junior_data"),
        reads=("seed", "embedding_model"),
        unfingerprinted=("runtime",),
        externals=("embedding_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "embedding_reruns",
        "embedding",
        "model",
        "The same embedding training under other seeds, to measure how much a score depends on the seed.",
        ("final_triplets", "mined_negatives"),
        reads=("seed", "embedding_model"),
        unfingerprinted=("runtime",),
        externals=("embedding_base",),
        gpu=True,
        version=2,
    ),
    Stage(
        "mteb_scores",
        "embedding",
        "scores",
        "MTEB scores of the embedding model, its reruns and its baselines: one row for each model and task.",
        ("embedding_model", "baseline_models", "embedding_reruns"),
        reads=("seed", "evaluation", "embedding_model"),
        unfingerprinted=("runtime",),
        externals=("evaluation_sets", "evaluation_texts", "embedding_base", "scoring_libraries"),
        gpu=True,
        version=4,
    ),
    Stage(
        "release",
        "release",
        "release",
        "Model, data, cards and manifest in one folder. It is written completely or not at all, and only if every gate passes.",
        ("embedding_model", "final_triplets", "mteb_scores"),
        reads=_STATED,
        version=6,
    ),
)


STAGES_WITH_STAND_INS = ("junior_data", "preference_pairs", "senior_data", "revision_data", "final_triplets")
"""Stages in whose tables, in a rehearsal, the teacher's examples replace rows that are not valid."""
