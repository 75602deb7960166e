"""The loop as data: its stages, what they are made from, and which of them a recipe takes.

Belongs here: the names that other modules use. The table of stages is in `stages.py`, the graph of a recipe in
`shape.py`, walks along edges in `edges.py`, what a user gives in the place of an artifact in `given_stages.py`.
"""

from speed_assets.domain.graph.edges import Graph, downstream, shown_sources, sources, upstream
from speed_assets.domain.graph.given_stages import EXTERNAL, GENERATORS, external_of, has_generators, reads_own_section
from speed_assets.domain.graph.shape import OwnShape, Shape, build_graph, with_task_types, written_by
from speed_assets.domain.graph.stages import (
    ALIGNMENT,
    ALL_STAGES,
    EVALUATION_TEXTS,
    EXAMPLES,
    OWN_EVALUATION,
    PASSAGES,
    RERANKER_SCORES,
    SCORING_LIBRARIES,
    DataSource,
    Stage,
    Writer,
)

__all__ = [
    "ALIGNMENT",
    "ALL_STAGES",
    "EVALUATION_TEXTS",
    "EXAMPLES",
    "EXTERNAL",
    "GENERATORS",
    "OWN_EVALUATION",
    "PASSAGES",
    "RERANKER_SCORES",
    "SCORING_LIBRARIES",
    "DataSource",
    "Graph",
    "OwnShape",
    "Shape",
    "Stage",
    "Writer",
    "build_graph",
    "downstream",
    "external_of",
    "has_generators",
    "reads_own_section",
    "shown_sources",
    "sources",
    "upstream",
    "with_task_types",
    "written_by",
]
