"""The user's own evaluation set: queries of the teacher for held-out documents, and queries that the user has judged.

Belongs here: their numbers. Not here: the corpus (`corpus_section.py`), the gate on their scores (`checks.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from typing_extensions import override

from speed_assets.domain.graph import OwnShape
from speed_assets.recipe.section import Count, Encoding, Positive, Rate, Section
from speed_assets.recipe.sections.answers_section import Sampling
from speed_assets.recipe.sections.scores_section import Embedder


class Pooled(Section):
    """Several retrievers search for each query, and the teacher judges what they find. All numbers are ours."""

    depth: Annotated[int, Field(ge=1, le=100)] = 5
    """Results of each retriever that are judged, two calls each: a query takes 2 times `depth` times the number of retrievers at most."""
    bm25: bool = True
    """BM25 is one of the retrievers."""
    untrained: bool = True
    """The embedding base without training is one of them."""
    models: tuple[Embedder, ...] = ()
    """Further embedding models that are."""
    sampling: Sampling = Sampling(temperature=0.0)
    """How the teacher's judgements are sampled."""

    @model_validator(mode="after")
    def _some(self) -> Pooled:
        if not self.retrievers():
            raise ValueError("no retriever is left: set bm25 or untrained, or name models")
        if len(set(self.retrievers())) < len(self.retrievers()):
            raise ValueError("a retriever is named twice: their names tell what each of them found")
        return self

    def retrievers(self) -> tuple[str, ...]:
        """Their names, in the order in which they search."""
        own = ["bm25"] * self.bm25 + ["untrained"] * self.untrained
        return (*own, *(model.model for model in self.models))

    def calls_most(self, queries: int) -> int:
        """Calls of the teacher for so many queries, at most: each result in two orders."""
        return 2 * self.depth * len(self.retrievers()) * queries


class QueryColumns(Section):
    """Names of the columns of a table of judged queries."""

    query: str = "query"
    """Column of the query's text."""
    document: str = "document"
    """Column of the id of a document of `corpus`, or of a list of them; a table may lack it."""
    passage: str = "passage"
    """Column of the text that answers the query, or of a list of them; a table may lack it."""
    relevance: str = "relevance"
    """Column of the grade: 0 (not relevant), 1, 2, ...; without it every row is relevant."""


_JUDGED = ("queries", "columns", "encoding", "file_megabytes_max", "queries_max", "hosted_teachers")
"""Fields that say how the user's judged queries are read."""


class OwnEvaluation(Section):
    """A retrieval set from the user's own documents: the teacher writes queries for passages of those that are held out
    (`corpus.held_out`), or the user has queries. All numbers are ours."""

    rows: Count = 200
    """Queries of the teacher at most, one for each held-out passage; with 0 only those of `queries` are scored."""
    sampling: Sampling = Sampling(temperature=1.0)
    """How the queries are sampled."""
    attempts: Positive = 2
    """Times that a query is asked for until it can be used."""
    copied_words_min: Positive = 5
    """A query of so many words that is in its passage word for word is copied, and not used."""
    pooled: Pooled | None = None
    """Judge what several retrievers find, so that passages that answer a query too do not count as misses; null counts the passage alone that
    a query was written for."""
    queries: Annotated[str, Field(min_length=1)] | None = None
    """The user's judged queries: a folder in BEIR's layout (`queries.jsonl`, `qrels/*.tsv`), or a table (.jsonl, .csv, .tsv, .parquet). They are
    searched for among all passages, in a set of their own (`own_queries`). A relative path starts at the recipe's folder."""
    columns: QueryColumns = QueryColumns()
    encoding: Encoding = "utf-8"
    """Of a file of queries without a byte order mark."""
    file_megabytes_max: Rate = 100.0
    """Megabytes (10^6 bytes) of a file of queries at most."""
    queries_max: Positive = 2_000
    """Queries of the file that are scored at most, chosen by a hash."""
    hosted_teachers: bool = False
    """Whether `queries` may be sent to a teacher that is not on this machine, as `pooled` does."""

    @model_serializer(mode="wrap")
    @override
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not used: recipes from before have the digests that they had."""
        dumped: dict[str, Any] = dump(self)
        for name in _JUDGED if self.queries is None else ():
            dumped.pop(name, None)
        if self.pooled is None:
            dumped.pop("pooled", None)
        return dumped

    @model_validator(mode="after")
    def _something(self) -> OwnEvaluation:
        if not self.rows and self.queries is None:
            raise ValueError("rows=0 and no `queries`: nothing is to be scored")
        return self

    def shape(self) -> OwnShape:
        """What the stage does and reads, for the graph."""
        pooled = self.pooled
        return OwnShape(
            written=self.rows > 0,
            judged=self.queries is not None,
            pooled=pooled is not None,
            untrained=pooled is not None and pooled.untrained,
        )
