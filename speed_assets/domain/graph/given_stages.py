"""Stages in whose place the user gives something: a model, or triplets. They are made from nothing of the graph.

Belongs here: what such a stage reads, and its name among the externals. Not here: which stages a recipe takes (`shape.py`), what
may be given (`resources/inputs/given_models.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from speed_assets.domain.graph.edges import Graph
from speed_assets.domain.graph.stages import EVALUATION_TEXTS, Stage

GENERATORS = ("junior_model", "senior_model", "revisor_model")
"""Stages whose artifact writes or revises rows."""
EXTERNAL = "given"


def external_of(stage: str) -> str:
    """The name, among the externals, of what is given for a stage."""
    return f"{EXTERNAL}:{stage}"


def has_generators(graph: Graph) -> bool:
    """Whether a model of the graph writes or revises rows."""
    return any(name in graph for name in GENERATORS)


def reads_own_section(stage: Stage) -> bool:
    """Whether the section of its own name counts for a stage: how a model would be trained does not for one that is given."""
    return not stage.given or stage.kind != "model"


def put_given(stages: Graph, names: Iterable[str], *, searched: bool) -> None:
    """Let what is given stand in its stages; given triplets are compared with evaluation texts as written ones are.

    Args:
        stages: all stages; those named are replaced, and the release reads what was given.
        names: the stages that something is given for.
        searched: whether texts of mteb's tasks are searched for.
    """
    for name in names:
        stage = stages[name]
        is_table, writes = stage.kind == "table", name in GENERATORS
        stages[name] = replace(
            stage,
            description=f"Given by the user and not made here, in the place of this: {stage.description}",
            inputs=(EVALUATION_TEXTS,) if is_table and searched else (),
            reads=("seed", "evaluation") if is_table else ("generator",) if writes else (),
            unfingerprinted=stage.unfingerprinted if is_table else (),
            # An adapter is one of the generators' base.
            externals=(
                external_of(name),
                *(stage.externals if is_table else ()),
                *(("generator_base",) if writes else ()),
            ),
            takes=None,
            gpu=False,
            given=True,
            version=1,
        )
        release = stages["release"]
        inputs = tuple(source for source in release.inputs if name != "embedding_model" or source != "final_triplets")
        stages["release"] = replace(release, inputs=inputs, reads=tuple(dict.fromkeys((*release.reads, EXTERNAL))))
