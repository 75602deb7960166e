"""The graph of a recipe: which of the loop's stages it takes, and what each of them reads then.

Belongs here: leaving out and joining stages. Not here: the stages themselves (`stages.py`), reading a recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from speed_assets.domain.graph.edges import Graph, upstream
from speed_assets.domain.graph.given_stages import put_given
from speed_assets.domain.graph.stages import (
    ALL_STAGES,
    EVALUATION_TEXTS,
    EXAMPLES,
    OWN_EVALUATION,
    PASSAGES,
    RERANKER_SCORES,
    STAGES_WITH_STAND_INS,
    DataSource,
    Stage,
    Writer,
)
from speed_assets.domain.task_types import GROUNDED, GROUNDED_TYPES, TASK_TYPE_NAMES


@dataclass(frozen=True, slots=True)
class OwnShape:
    """What own_evaluation does."""

    written: bool = True
    """The teacher writes queries for held-out passages."""
    judged: bool = False
    """The user has queries with judgements."""
    pooled: bool = False
    """Retrievers search for each query, and the teacher judges what they find."""
    untrained: bool = False
    """One of the retrievers is the embedding base."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of the loop that a recipe takes. The caller leaves out baselines on tables that the recipe does not make."""

    source: DataSource = "revised_data"
    """The table that final_triplets are made from: with `seed_data` the teacher writes all rows and no generator is trained."""
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
    """An embedding model compares the scored rows with each other and with evaluation texts."""
    searched: bool = False
    """Rows that repeat texts of mteb's tasks are quarantined."""
    mined: bool = True
    """Negatives are mined from the positives of other rows."""
    reranked: bool = False
    """A reranker scores positives and negatives, and the embedding model learns its margins."""
    reruns: bool = True
    """The embedding model is trained several times."""
    corpus: bool = False
    """Some rows are written from passages of the user's documents."""
    given_texts: bool = False
    """Some of them are no retrieval rows: the passage is their given text."""
    own_evaluation: bool = False
    """The model is scored on a set of the user's own."""
    own: OwnShape = OwnShape()
    """How that set is made."""
    examples: bool = False
    """The user has queries and pairs of their own."""
    languages: bool = False
    """Rows are drawn in several languages, or in another than English."""
    answered: bool = False
    """Passages are searched for that answer queries of theirs."""
    answered_by_base: bool = False
    """One of the retrievers that do so is the embedding base."""
    given: tuple[str, ...] = ()
    """Stages whose artifact the user gives."""
    rehearsed: bool = False
    """The teacher's examples replace rows that a model could not write (`assets/stand_ins.py`)."""


def build_graph(shape: Shape = Shape()) -> Graph:
    """The stages that a recipe needs.

    Args:
        shape: The part of the loop that the recipe takes.

    Returns:
        Stages by name, every input before the stages that read it.
    """
    stages = {stage.name: stage for stage in ALL_STAGES}
    if not shape.expanded:
        stages["task_list"] = replace(stages["task_list"], inputs=("topics",))
    stages["senior_data"] = replace(stages["senior_data"], inputs=("task_list", shape.writer))
    if shape.corpus:
        _read_passages(stages, shape)
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
        # Candidates once shared the id of their prompt; other tables are as they were.
        version=stages["final_triplets"].version + (shape.source == "junior_data"),
    )
    if shape.languages:
        _read_languages(stages)
    if not shape.mined:
        for name in ("embedding_model", "embedding_reruns"):
            stages[name] = replace(stages[name], inputs=("final_triplets",))
    if shape.reranked:
        _read_reranker(stages, shape)
    stages["baseline_models"] = replace(stages["baseline_models"], inputs=shape.baselines)
    compared = [*["baseline_models"] * bool(shape.baselines), *["embedding_reruns"] * shape.reruns]
    compared += [OWN_EVALUATION] * shape.own_evaluation
    stages["mteb_scores"] = replace(stages["mteb_scores"], inputs=("embedding_model", *compared))
    put_given(stages, shape.given, searched=shape.searched)
    seeded = "seed_data" in upstream(stages, ["release"])
    if shape.examples:
        _read_examples(stages, shape, seeded=seeded)
    for name in STAGES_WITH_STAND_INS if shape.rehearsed else ():
        stage = stages[name]
        examples = ("seed_data",) if seeded and name in ("junior_data", "senior_data") else ()
        stages[name] = replace(stage, inputs=(*stage.inputs, *examples), reads=(*stage.reads, "rehearsal"))
    return _needed(stages)


def _needed(stages: Graph) -> Graph:
    """The stages that the release is made from, and those that gather tables; none of these where there is no table."""
    needed = upstream(stages, ["release"])
    # A release states the fingerprints of all that it is made from, and so all that these know of the outside.
    outside = dict.fromkeys(name for stage in stages.values() if stage.name in needed for name in stage.externals)
    stages["release"] = replace(stages["release"], externals=tuple(outside))
    for name, stage in stages.items():
        if stage.gathers:
            inputs = tuple(other for other in stages if other in needed and stages[other].kind == stage.gathers)
            stages[name] = replace(stage, inputs=inputs)
    return {name: stage for name, stage in stages.items() if name in needed or (stage.gathers and stage.inputs)}


def _read_passages(stages: Graph, shape: Shape) -> None:
    """Let the stages read passages that write from them or mine negatives, and the release state where they are from."""
    sections = ("queries", *["grounded_rows"] * shape.given_texts)
    for name in ("seed_data", "junior_data", "senior_data"):
        stage = stages[name]
        stages[name] = replace(stage, inputs=(*stage.inputs, PASSAGES), reads=(*stage.reads, *sections))
    stages["mined_negatives"] = replace(stages["mined_negatives"], inputs=("final_triplets", PASSAGES))
    own = (OWN_EVALUATION,) if shape.own_evaluation else ()
    stages[OWN_EVALUATION] = _evaluating(stages[OWN_EVALUATION], shape)
    if shape.own_evaluation and shape.own.judged:  # no row may repeat one of these queries
        stage = stages["final_triplets"]
        names = (*stage.unfingerprinted, OWN_EVALUATION)
        stages["final_triplets"] = replace(stage, externals=(*stage.externals, "judged_queries"), unfingerprinted=names)
    stages["release"] = replace(stages["release"], reads=(*stages["release"].reads, "corpus", *sections, *own))


def _evaluating(stage: Stage, shape: Shape) -> Stage:
    """own_evaluation as the recipe asks for it."""
    own = shape.own
    reads, externals = stage.reads, stage.externals
    if not own.written:
        reads = tuple(name for name in reads if name != "queries") if own.pooled else ("seed",)
        externals = ()
    if own.judged:
        # Queries that are trained on are not scored.
        read = (PASSAGES, EXAMPLES) if shape.examples else (PASSAGES,)
        stage = replace(stage, inputs=read, takes=None)
        externals = (*externals, "judged_queries")
    if own.pooled:
        base = ("untrained_base",) if own.untrained else ()
        stage = replace(stage, gpu=True, unfingerprinted=("runtime", "embedding_model"))
        externals = (*externals, "prompt:relevance", "pool_models", *base)
    return replace(stage, reads=reads, externals=externals)


def _read_examples(stages: Graph, shape: Shape, *, seeded: bool) -> None:
    """Let seed_data take the user's examples where it is in the graph, and the release leave them out."""
    for name in ("seed_data", "release") if seeded else ():
        stage = stages[name]
        stages[name] = replace(stage, inputs=(*stage.inputs, EXAMPLES), reads=(*stage.reads, EXAMPLES))
    if shape.answered:
        stage = stages[EXAMPLES]
        base = ("untrained_base",) if shape.answered_by_base else ()
        stages[EXAMPLES] = replace(
            stage,
            inputs=(PASSAGES,),
            reads=("seed", "teacher", "prompts", "answers"),
            externals=(*stage.externals, "prompt:relevance", "answer_models", *base),
            unfingerprinted=("runtime", "embedding_model"),
            gpu=True,
        )


def _read_reranker(stages: Graph, shape: Shape) -> None:
    """Let a reranker score the rows that are trained on, the trainings read its scores, and the release state which one it was."""
    inputs = ("final_triplets", *["mined_negatives"] * shape.mined)
    stages[RERANKER_SCORES] = replace(stages[RERANKER_SCORES], inputs=inputs)
    for name in ("embedding_model", "embedding_reruns"):
        stages[name] = replace(stages[name], inputs=(*inputs, RERANKER_SCORES))
    release = stages["release"]
    stages["release"] = replace(release, reads=(*release.reads, RERANKER_SCORES))


def _read_languages(stages: Graph) -> None:
    """Let the stages read languages that draw or count them."""
    for name in ("seed_data", "junior_data", "senior_data", OWN_EVALUATION, "final_triplets", "mteb_scores", "release"):
        stages[name] = replace(stages[name], reads=(*stages[name].reads, "languages"))


def with_task_types(graph: Graph, wanted: Mapping[str, Iterable[str]]) -> Graph:
    """The graph with artifacts only for the task types that the recipe asks rows of.

    Args:
        graph: The graph of a recipe.
        wanted: By stage, the task types that the recipe asks rows of; other stages have the types of their inputs.

    Raises:
        ValueError: No task type is left for a stage.
    """
    found: Graph = {}
    for name, stage in graph.items():
        if not stage.partitioned:
            found[name] = stage
            continue
        if name in ("task_list", PASSAGES, EXAMPLES):
            types = _types_read(graph, name, wanted)
            if not types and PASSAGES in graph:  # all rows are about topics, or none is
                continue
        else:
            types = set(wanted.get(name, stage.task_types))
            # A task list, and the teacher's examples in a rehearsal, may have more types or fewer.
            above = [i for i in stage.inputs if i in found and found[i].partitioned and i not in _NOT_ROWS]
            for source in above:
                types &= set(found[source].task_types)
        if not types:
            raise ValueError(f"{name} has no rows of any task type: ask for rows of at least one")
        found[name] = replace(stage, task_types=tuple(t for t in TASK_TYPE_NAMES if t in types))
    if PASSAGES not in graph:
        return found
    found = _with_inputs_of(found)
    needed = upstream({name: stage for name, stage in found.items() if not stage.gathers}, ["release"])
    return _with_inputs_of({name: stage for name, stage in found.items() if name in needed or stage.gathers})


def _types_read(graph: Graph, name: str, wanted: Mapping[str, Iterable[str]]) -> set[str]:
    """The task types that some stage reads of a task list or of passages."""
    given = (
        "final_triplets" in graph and graph["final_triplets"].given
    )  # nothing is written, but negatives may be mined
    if name == PASSAGES and (OWN_EVALUATION in graph or given):
        return {GROUNDED}
    readers = [stage.name for stage in graph.values() if name in stage.inputs and stage.partitioned]
    types = {task_type for reader in readers for task_type in wanted.get(reader, TASK_TYPE_NAMES)}
    if name == PASSAGES and types.intersection(GROUNDED_TYPES):
        return {GROUNDED}  # one table for all of them
    return types & set(graph[name].task_types)


def _with_inputs_of(graph: Graph) -> Graph:
    """The graph, in which no stage reads one that it does not have."""
    return {
        name: replace(stage, inputs=tuple(source for source in stage.inputs if source in graph))
        for name, stage in graph.items()
    }


_NOT_ROWS = ("task_list", PASSAGES, EXAMPLES, "seed_data")
"""Partitioned inputs that are not the rows that a stage works on."""


def written_by(source: DataSource) -> DataSource:
    """The stage that wrote the rows of `source`. Its section has their number, and its name seeds the draw of their tasks."""
    return "senior_data" if source == "revised_data" else source
