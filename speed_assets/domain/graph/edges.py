"""Edges of a graph: what an artifact is made from, and what is made from it.

Belongs here: walks along edges. Not here: which stages there are (`stages.py`, `shape.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from speed_assets.domain.graph.stages import PASSAGES, Stage
from speed_assets.domain.task_types import GROUNDED, GROUNDED_TYPES

Graph = dict[str, Stage]


def sources(graph: Graph, name: str, task_type: str | None) -> list[tuple[str, str | None]]:
    """The artifacts that an artifact is made from.

    Args:
        graph: The graph of a recipe.
        name: The stage of the artifact.
        task_type: Its task type; None where the stage has one artifact.

    Returns:
        (stage, task type) of each: of the same task type where both have one, else of all task types. All rows from passages are from one
        table of them.
    """
    found: list[tuple[str, str | None]] = []
    for source in graph[name].inputs:
        types: tuple[str | None, ...] = graph[source].task_types or (None,)
        if task_type is not None and graph[source].partitioned:
            read = GROUNDED if source == PASSAGES and task_type in GROUNDED_TYPES else task_type
            types = tuple(t for t in types if t == read)
        found += [(source, t) for t in types]
    return found


def shown_sources(graph: Graph, name: str, task_type: str | None) -> list[tuple[str, str | None]]:
    """The artifacts that an artifact has an edge from in the graph that a person sees.

    A stage that gathers reads every table. It has edges only from those that are upstream of no other of its inputs, so that
    it is a view next to the graph and still comes after all of them.
    """
    found = sources(graph, name, task_type)
    if not graph[name].gathers:
        return found
    above = {other for source in graph[name].inputs for other in upstream(graph, [source]) - {source}}
    return [source for source in found if source[0] not in above]


def upstream(graph: Graph, names: Iterable[str]) -> set[str]:
    """The named stages and all stages that they are made from, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name].inputs)
    return found


def downstream(graph: Graph, names: Iterable[str]) -> set[str]:
    """The named stages and all stages that are made from them, directly or not."""
    found = set(names)
    for stage in graph.values():
        if found.intersection(stage.inputs):
            found.add(stage.name)
    return found
