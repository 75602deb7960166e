"""The loop as data: every artifact, what it is made from and what it reads of the recipe.

One `Stage` per asset. From this table come the Dagster dependencies, the fingerprints, the code
versions shown in the UI and the plan, so they cannot disagree. The function of a stage gets exactly the
recipe sections listed here: those of its fingerprint, and apart from them those of `unfingerprinted`.

Belongs here: names, edges, versions. Not here: what a stage does (`speed_assets/assets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from speed_assets.domain.task_types import TASK_TYPE_NAMES

Kind = Literal["texts", "table", "model", "scores", "release"]
DataSource = Literal["revised_data", "senior_data", "junior_data", "seed_data"]
Writer = Literal["senior_model", "junior_model"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One artifact of the loop, or one for each of its `task_types`.

    `reads` names recipe sections; a stage also reads the section of its own name if there is one.
    `unfingerprinted` names sections that its fingerprint leaves out, since no byte of the artifact follows from them: they set
    its pace, stop it, or word a figure next to it.
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
    unfingerprinted: tuple[str, ...] = ()
    externals: tuple[str, ...] = ()
    takes: Literal["alignment", "synthesis"] | None = None
    gathers: Kind | None = None
    gpu: bool = False
    version: int = 1

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
        unfingerprinted=_TRAINS,
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
        unfingerprinted=_WRITES,
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
        unfingerprinted=_TRAINS,
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
        unfingerprinted=_WRITES,
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
        unfingerprinted=_TRAINS,
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
        unfingerprinted=_WRITES,
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
        unfingerprinted=("teacher",),
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
        unfingerprinted=("teacher", "prompts"),
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
        unfingerprinted=("runtime",),
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
        unfingerprinted=("runtime",),
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
        unfingerprinted=("runtime",),
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
        unfingerprinted=("runtime",),
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
        reads=_STATED,
        version=4,
    ),
)

STOOD_IN_FOR = ("junior_data", "preference_pairs", "senior_data", "revision_data", "final_triplets")
"""Stages in whose tables rows stand in, in a rehearsal, for what was not whole."""

Graph = dict[str, Stage]


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the loop a recipe takes. Baselines on tables that it does not make are left out by the caller."""

    source: DataSource = "revised_data"
    """The table that final_triplets are made from: `seed_data` is the teacher-only way, and then no generator is trained."""
    writer: Writer = "senior_model"
    """The model that writes at scale: with the junior there is no DPO."""
    baselines: tuple[str, ...] = ("seed_data", "junior_data")
    """Tables that a comparison model is trained on."""
    expanded: bool = False
    """The teacher grows the topics into a tree."""
    scored: bool = True
    """Rows are scored before they are filtered."""
    judged: bool = True
    """The teacher reads a sample of the scored rows."""
    embedded: bool = True
    """Rows are held against each other and evaluation texts by an embedding model when they are scored."""
    searched: bool = False
    """Texts of mteb's tasks are looked for in the rows."""
    mined: bool = True
    """Negatives are mined from the positives of other rows."""
    reruns: bool = True
    """The embedding model is trained several times."""
    rehearsed: bool = False
    """The teacher's examples stand in for what a model could not write (`assets/stand_ins.py`)."""


def build_graph(shape: Shape = Shape()) -> Graph:
    """The stages that a recipe needs, in an order in which every input precedes its reader."""
    stages = {stage.name: stage for stage in ALL_STAGES}
    if not shape.expanded:
        stages["task_list"] = replace(stages["task_list"], inputs=("topics",))
    stages["senior_data"] = replace(stages["senior_data"], inputs=("task_list", shape.writer))
    texts = (EVALUATION_TEXTS,) if shape.searched else ()
    wrote = {"revised_data": shape.writer, "senior_data": shape.writer, "junior_data": "junior_model"}.get(shape.source)
    stages["row_scores"] = replace(
        stages["row_scores"],
        inputs=(shape.source, *((wrote,) if wrote else ()), *(texts if shape.embedded else ())),
        reads=("seed", "generator", *(("evaluation",) if shape.embedded else ())),
        externals=tuple(
            name for name in stages["row_scores"].externals if (wrote if name == "generator_base" else shape.embedded)
        ),
    )
    stages["row_verdicts"] = replace(stages["row_verdicts"], inputs=(shape.source, "row_scores"))
    read_by = [*["row_scores"] * shape.scored, *["row_verdicts"] * (shape.scored and shape.judged)]
    stages["final_triplets"] = replace(
        stages["final_triplets"],
        inputs=(shape.source, *read_by, "task_list", *texts),
        reads=("seed", "evaluation", written_by(shape.source)),
        takes=stages[written_by(shape.source)].takes,
    )
    if not shape.mined:
        stages["embedding_model"] = replace(stages["embedding_model"], inputs=("final_triplets",))
    stages["baseline_models"] = replace(stages["baseline_models"], inputs=shape.baselines)
    compared = [*["baseline_models"] * bool(shape.baselines), *["embedding_reruns"] * shape.reruns]
    stages["mteb_scores"] = replace(stages["mteb_scores"], inputs=("embedding_model", *compared))
    for name in STOOD_IN_FOR if shape.rehearsed else ():
        stage = stages[name]
        examples = ("seed_data",) if name in ("junior_data", "senior_data") else ()
        stages[name] = replace(stage, inputs=(*stage.inputs, *examples), reads=(*stage.reads, "rehearsal"))
    needed = upstream(stages, ["release"])
    # A release states the fingerprints of all that it is made from, and so all that these know of the outside.
    outside = dict.fromkeys(name for stage in stages.values() if stage.name in needed for name in stage.externals)
    stages["release"] = replace(stages["release"], externals=tuple(outside))
    for name, stage in stages.items():
        if stage.gathers:
            inputs = tuple(other for other in stages if other in needed and stages[other].kind == stage.gathers)
            stages[name] = replace(stage, inputs=inputs)
    return {name: stage for name, stage in stages.items() if name in needed or stage.gathers}


def with_task_types(graph: Graph, asked: Mapping[str, Iterable[str]]) -> Graph:
    """The graph with an artifact only for task types of which rows are asked for.

    Args:
        graph: of a recipe.
        asked: task types of which a stage is asked for rows, by stage; other stages have the types of what they read.

    Raises:
        ValueError: when no row of any task type is left for a stage.
    """
    found: Graph = {}
    for name, stage in graph.items():
        if not stage.partitioned:
            found[name] = stage
            continue
        if name == "task_list":
            readers = [s.name for s in graph.values() if "task_list" in s.inputs and s.partitioned]
            types = {task_type for reader in readers for task_type in asked.get(reader, TASK_TYPE_NAMES)}
        else:
            types = set(asked.get(name, TASK_TYPE_NAMES))
            # Of a task list and of the teacher's examples that stand in there may be more or fewer.
            above = [i for i in stage.inputs if i in found and found[i].partitioned and i not in _NOT_ROWS]
            for source in above:
                types &= set(found[source].task_types)
        if not types:
            raise ValueError(f"{name} is asked for no row of any task type: ask for rows of one at least")
        found[name] = replace(stage, task_types=tuple(t for t in TASK_TYPE_NAMES if t in types))
    return found


_NOT_ROWS = ("task_list", "seed_data")
"""Inputs by task type that are not the rows which a stage works on."""


def sources(graph: Graph, name: str, task_type: str | None) -> list[tuple[str, str | None]]:
    """The artifacts (stage, task type) that one is made from: of its own task type where it has one, else of all."""
    found: list[tuple[str, str | None]] = []
    for source in graph[name].inputs:
        types: tuple[str | None, ...] = graph[source].task_types or (None,)
        if task_type is not None and graph[source].partitioned:
            types = tuple(t for t in types if t == task_type)
        found += [(source, t) for t in types]
    return found


def written_by(source: DataSource) -> DataSource:
    """The stage that wrote the rows of `source`: its section says how many were asked for, its name draws their tasks."""
    return "senior_data" if source == "revised_data" else source


def upstream(graph: Graph, names: Iterable[str]) -> set[str]:
    """The named stages and everything they are made from."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name].inputs)
    return found


def downstream(graph: Graph, names: Iterable[str]) -> set[str]:
    """The named stages and everything made from them."""
    found = set(names)
    for stage in graph.values():
        if found.intersection(stage.inputs):
            found.add(stage.name)
    return found
