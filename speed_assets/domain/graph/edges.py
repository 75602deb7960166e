"""Edges of a graph: what an artifact is made from, and what is made from it.

Belongs here: walks along edges. Not here: which stages there are (`stages.py`, `shape.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from speed_assets.domain.graph.stages import Stage

Graph = dict[str, Stage]


def sources(graph: Graph, name: str, task_type: str | None) -> list[tuple[str, str | None]]:
    """The artifacts (stage, task type) that one is made from: of its own task type where it has one, else of all."""
    found: list[tuple[str, str | None]] = []
    for source in graph[name].inputs:
        types: tuple[str | None, ...] = graph[source].task_types or (None,)
        if task_type is not None and graph[source].partitioned:
            types = tuple(t for t in types if t == task_type)
        found += [(source, t) for t in types]
    return found


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
