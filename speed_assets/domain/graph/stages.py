"""The loop as data: every artifact, what it is made from and what it reads of the recipe.

One `Stage` per asset. From this table come the Dagster dependencies, the fingerprints, the code
versions shown in the UI and the plan, so they cannot disagree.

Belongs here: names, edges, versions. Not here: what a stage does (`speed_assets/assets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from speed_assets.domain.task_types import TASK_TYPE_NAMES

Kind = Literal["texts", "table", "model", "scores", "release"]


DataSource = Literal["revised_data", "senior_data", "junior_data", "seed_data"]


Writer = Literal["senior_model", "junior_model"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One artifact of the loop, or one for each of its `task_types`.

    `reads` names recipe sections; a stage also reads the section of its own name if there is one.
    `externals` names things outside recipe and graph whose digest counts (see `resources/inputs/external_digests.py`).
    `takes` names the part of task_list that it reads, if not all: then only that part counts in its fingerprint.
    `gathers` makes it an end of its own beside the release: it is made from every stage of that kind that the release
    needs, and nothing is made from it.
    Raise `version` when the stage's code changes what it writes. `gpu` stages run one at a time where there is a GPU.
    """

    name: str
    group: str
    kind: Kind
    description: str
    inputs: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    externals: tuple[str, ...] = ()
    takes: Literal["alignment", "synthesis"] | None = None
    gathers: Kind | None = None
    gpu: bool = False
    version: int = 1

    @property
    def partitioned(self) -> bool:
        """Whether there is an artifact for each task type."""
        return bool(self.task_types)


_TEACHER = ("seed", "teacher", "prompts", "answers")


_GENERATOR = ("seed", "generator", "prompts", "answers")


SCORING_LIBRARIES = ("mteb", "sentence-transformers", "transformers", "torch")
"""Packages whose versions shape a score: with others, models are scored anew, as such scores are not compared."""


EVALUATION_TEXTS = "evaluation_texts"


ALL_STAGES: tuple[Stage, ...] = (
    Stage(
        EVALUATION_TEXTS,
        "tasks",
        "texts",
        "Texts of the mteb tasks that the model is scored on, to be kept out of the rows; first, as nothing is paid for them.",
        reads=("evaluation",),
        externals=("mteb_version",),
    ),
    Stage(
        "topics",
        "tasks",
        "table",
        "Topic paths of the user's file, shortened to four levels; refused lines beside them.",
        externals=("topic_file",),
        version=3,
    ),
    Stage(
        "topic_tree",
        "tasks",
        "table",
        "The topics and their subtopics, which the teacher names level by level; what repeats another is set aside.",
        ("topics",),
        reads=(*_TEACHER, "topics"),
        externals=("prompt:expand",),
    ),
    Stage(
        "task_list",
        "tasks",
        "table",
        "Tasks of the topics that rows are drawn for, brainstormed by the teacher and checked (STS: the topic itself).",
        ("topic_tree",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:brainstorm", "rows_wanted"),
        version=4,
    ),
    Stage(
        "seed_data",
        "junior",
        "table",
        "The teacher's own examples, from which the junior generator learns.",
        ("task_list",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:synthesis",),
        takes="alignment",
        version=6,
    ),
    Stage(
        "junior_model",
        "junior",
        "model",
        "Junior generator: supervised fine-tuning of the base on seed_data.",
        ("seed_data",),
        reads=_GENERATOR,
        externals=("generator_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "junior_data",
        "junior",
        "table",
        "Several candidates of the junior generator for each prompt.",
        ("task_list", "junior_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        externals=("prompt:synthesis",),
        takes="alignment",
        version=3,
        gpu=True,
    ),
    Stage(
        "preference_pairs",
        "senior",
        "table",
        "Best and worst candidate of each prompt, judged by the teacher in several orders.",
        ("junior_data",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:judge",),
        version=5,
    ),
    Stage(
        "senior_model",
        "senior",
        "model",
        "Senior generator: DPO from the junior on preference_pairs.",
        ("junior_model", "preference_pairs"),
        reads=_GENERATOR,
        gpu=True,
        version=3,
    ),
    Stage(
        "senior_data",
        "senior",
        "table",
        "The senior generator's output at scale (without DPO: the junior's).",
        ("task_list", "senior_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        externals=("prompt:synthesis",),
        takes="synthesis",
        version=3,
        gpu=True,
    ),
    Stage(
        "revision_data",
        "revisor",
        "table",
        "The teacher's verdicts and revisions of junior output.",
        ("junior_data",),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:revise",),
        version=4,
    ),
    Stage(
        "revisor_model",
        "revisor",
        "model",
        "Data revisor: supervised fine-tuning of the unaligned base on revision_data.",
        ("revision_data",),
        reads=_GENERATOR,
        externals=("generator_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "revised_data",
        "revisor",
        "table",
        "senior_data as the data revisor mended it; what it changed is kept beside it, and what it still doubts.",
        ("senior_data", "revisor_model"),
        task_types=TASK_TYPE_NAMES,
        reads=_GENERATOR,
        externals=("prompt:revise",),
        version=5,
        gpu=True,
    ),
    Stage(
        "row_scores",
        "triplets",
        "table",
        "What other readers say of each row: its writer of its least likely word, models trained on other rows of its fit.",
        ("revised_data", "senior_model", EVALUATION_TEXTS),
        reads=("seed", "generator", "evaluation"),
        externals=("generator_base", "scores_embedder", "evaluation_sets", "evaluation_texts"),
        gpu=True,
        version=2,
    ),
    Stage(
        "row_verdicts",
        "triplets",
        "table",
        "The teacher's verdicts on a sample of the rows: by them each run finds the bounds of its scores.",
        ("revised_data", "row_scores"),
        task_types=TASK_TYPE_NAMES,
        reads=_TEACHER,
        externals=("prompt:revise",),
        version=4,
    ),
    Stage(
        "final_triplets",
        "triplets",
        "table",
        "Training triplets: near-duplicates, contamination and bad rows removed into the quarantine.",
        ("revised_data", "row_scores", "row_verdicts", "task_list", EVALUATION_TEXTS),
        reads=("seed", "evaluation", "senior_data"),
        externals=("evaluation_sets", "evaluation_texts"),
        takes="synthesis",
        version=10,
    ),
    Stage(
        "mined_negatives",
        "triplets",
        "table",
        "Negatives from the positives of other rows; where one may be right after all, the teacher is asked.",
        ("final_triplets",),
        reads=_TEACHER,
        externals=("prompt:judge", "negatives_embedder"),
        gpu=True,
        version=2,
    ),
    Stage(
        "quarantine",
        "triplets",
        "table",
        "Every row that any stage set aside, with its reason and its text: for looking, nothing is made from it.",
        gathers="table",
    ),
    Stage(
        "embedding_model",
        "embedding",
        "model",
        "Embedding model: contrastive fine-tuning on final_triplets.",
        ("final_triplets", "mined_negatives"),
        reads=("seed",),
        externals=("embedding_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "baseline_models",
        "embedding",
        "model",
        "The same embedding training on data that skips part of the loop, to compare with.",
        ("seed_data", "junior_data"),
        reads=("seed", "embedding_model"),
        externals=("embedding_base",),
        gpu=True,
        version=3,
    ),
    Stage(
        "embedding_reruns",
        "embedding",
        "model",
        "The embedding training again under other seeds: what a score owes to its seed.",
        ("final_triplets",),
        reads=("seed", "embedding_model"),
        externals=("embedding_base",),
        gpu=True,
        version=2,
    ),
    Stage(
        "mteb_scores",
        "embedding",
        "scores",
        "MTEB scores of the embedding model, its reruns and its baselines, one row per model and task.",
        ("embedding_model", "baseline_models", "embedding_reruns"),
        reads=("seed", "evaluation", "embedding_model"),
        externals=("evaluation_sets", "evaluation_texts", "embedding_base", "scoring_libraries"),
        gpu=True,
        version=4,
    ),
    Stage(
        "release",
        "release",
        "release",
        "Model, data, cards and manifest: written at once or not at all, and only through every gate.",
        ("embedding_model", "final_triplets", "mteb_scores"),
        reads=("name", "description", "checks"),
        version=3,
    ),
)


STOOD_IN_FOR = ("junior_data", "preference_pairs", "senior_data", "revision_data", "final_triplets")
"""Stages in whose tables rows stand in, in a rehearsal, for what was not whole."""
