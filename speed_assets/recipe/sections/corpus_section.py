"""Sections of a start from documents: the corpus, and queries that are written for its passages.

Belongs here: their numbers. Not here: an evaluation set from it (`own_evaluation_section.py`), what must be true between sections
(`recipe/rules.py`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from speed_assets.domain.grounded import QUERY_KINDS, Queries
from speed_assets.recipe.section import Encoding, Positive, Rate, Section, Share


class CorpusColumns(Section):
    """Names of the columns of tables with documents."""

    text: Annotated[tuple[str, ...], Field(min_length=1)] = ("text",)
    """Several are joined as paragraphs."""
    id: str = "id"
    """A row without an id is named by its content."""
    title: str = "title"
    """Column with the title of a document; a table may lack it."""
    date: str = "date"
    """Column with the date of a document; a table may lack it."""


class PassageRepeats(Section):
    """Passages that repeat another are folded. All numbers are ours."""

    shingle: Positive = 5
    """Characters in a shingle."""
    permutations: Positive = 128
    """Hashes in a sketch."""
    jaccard: Share = 0.8
    """Passages at least this similar are one."""
    boilerplate: Share = 0.01
    """Shingles in at least this share of the passages are boilerplate: passages must be similar without them, too."""


class GroundedShares(Section):
    """Shares of the rows of other task types than retrieval that are written from passages. All are ours."""

    classification: Share = 0.0
    """Of the classification rows: the text is a passage, verbatim."""
    sts: Share = 0.0
    """Of the STS rows: the first sentence is one of a passage, verbatim."""
    matching_long: Share = 0.0
    """Of the long matching rows: the given text is a passage, verbatim."""


class CorpusDataset(Section):
    """Documents that the library `datasets` loads: each row of a split is one. `corpus.columns` names their columns."""

    name: Annotated[str, Field(min_length=1)]
    """Name of a data set on the Hugging Face hub, or a folder that `datasets.load_dataset` reads. No code of a data set is run."""
    config: Annotated[str, Field(min_length=1)] | None = None
    """Configuration (subset) of the data set; null takes its default."""
    split: Annotated[str, Field(min_length=1)] = "train"
    """Split, or a part of one as the library writes it, such as `train[:1000]`."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch, tag or commit on the hub; null is the default branch. It stays the commit that it was at its first use in the home."""


class Corpus(Section):
    """The user's documents, and the passages that rows are written from. The paper has no such start: all numbers are ours."""

    LEFT_OUT = ("shares", "alignment", "dataset")

    path: str | None = None
    """Folder or file; a relative path starts at the recipe's folder. Read are .txt, .md, .html, .pdf, .jsonl, .csv, .tsv and
    .parquet; links are not followed. Either it or `dataset` is given."""
    dataset: CorpusDataset | None = None
    """A data set in the place of `path`."""
    alignment: str | None = None
    """Folder or file of documents that the alignment stages (seed, junior, preference and revision data) take their passages from, such as a
    copy of some of the documents; null takes those of `path` or `dataset`. With it no change in these retrains a generator. Ids are paths below it, so
    a copy of a held-out document teaches nothing."""
    columns: CorpusColumns = CorpusColumns()
    encoding: Encoding = "utf-8"
    """Of files without a byte order mark."""
    share: Share = 1.0
    """Share of the retrieval rows that every stage asks for which are written from passages; the others are about topics."""
    shares: GroundedShares = GroundedShares()
    """The same shares of other task types; `grounded_rows` says what such rows are like."""
    held_out: Share = 0.1
    """Share of the documents that nothing is trained on, by a hash of their ids."""
    forget: tuple[str, ...] = ()
    """Ids of documents that are left out, whatever the folder holds (`speed forget`)."""
    tokens_max: Annotated[int, Field(ge=16)] = 256
    """Tokens of a passage at most, by the tokenizer of the embedding base, title included."""
    tokens_min: Positive = 24
    """Tokens without the title below which a piece is no passage."""
    titled: bool = True
    """A passage begins with the title of its document and the headings above it."""
    boilerplate_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A line in at least this share of the documents is boilerplate, whatever number stands in it."""
    boilerplate_documents_min: Annotated[int, Field(ge=2)] = 10
    """And in at least so many documents."""
    near_duplicates: PassageRepeats = PassageRepeats()
    file_megabytes_max: Rate = 100.0
    """Megabytes (10^6 bytes) of a file at most."""
    documents_max: Positive = 1_000_000
    """Maximum documents of the corpus; with more, the run stops."""
    document_characters_max: Positive = 5_000_000
    """Maximum characters of a document; longer ones are rejected."""

    @model_validator(mode="after")
    def _one_source(self) -> Corpus:
        if self.path is None and self.dataset is None:
            raise ValueError("no documents: give `path` (a folder or file) or `dataset` (a data set of the hub)")
        if self.path is not None and self.dataset is not None:
            raise ValueError(
                "`path` and `dataset` are both given: remove one of them (`path: null` if another recipe has it)"
            )
        return self

    @model_validator(mode="after")
    def _cuttable(self) -> Corpus:
        if 2 * self.tokens_min > self.tokens_max:
            raise ValueError(f"tokens_min={self.tokens_min} is more than half of tokens_max={self.tokens_max}")
        return self


class GroundedQueries(Section):
    """Queries that are written for passages. All numbers are ours."""

    keyword: Annotated[float, Field(ge=0)] = 0.3
    """Weight of search keywords."""
    question: Annotated[float, Field(ge=0)] = 0.4
    """Weight of questions that the passage answers."""
    how_to: Annotated[float, Field(ge=0)] = 0.15
    """Weight of requests for how to do something."""
    claim: Annotated[float, Field(ge=0)] = 0.15
    """Weight of claims that the passage supports or refutes."""
    personas: tuple[str, ...] = ()
    """Readers in a few words, such as `a nurse on a night shift`; one is drawn for each row."""

    @model_validator(mode="after")
    def _some(self) -> GroundedQueries:
        if not any(self.drawn().kinds.values()):
            raise ValueError("no kind of query has a weight above 0")
        return self

    def drawn(self) -> Queries:
        """The same as the domain's value."""
        return Queries({kind: getattr(self, kind) for kind in QUERY_KINDS}, self.personas)
