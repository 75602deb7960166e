"""The user's own evaluation sets: `task.yaml` in a folder that `evaluation.local` names.

    name: Banking77              # its name in tables of scores
    type: Classification         # STS, PairClassification, Classification, Clustering, Retrieval, Reranking
    splits: {train: train.tsv, test: test.tsv}    # of ranking tasks: files of relevance
    corpus: corpus.jsonl         # ranking only: `id`, `text`, and `title` where there is one
    queries: queries.jsonl       # ranking only: `id`, `text`
    candidates: candidates.tsv   # reranking only: `query_id`, `document_id`
    fields: {label: intent}      # columns that have other names than these (see `FIELDS`); several that are joined: [head, body].
                                 # Of ranking tasks also `id`, `title`, `text`, of one file alone: `queries.text`
    dangling: refuse             # ranking: judgements and candidates of ids that are not there; `drop` leaves them out and reports the count
    eval_splits: [test]
    main_score: accuracy         # default: mteb's own for the type
    revision: "2024-05"          # for people; a digest of the folder is always part of the revision
    samples_per_label: 8         # classification: rows of each label that a classifier learns from (mteb: 8)
    experiments: 10              # classification, clustering: repetitions (mteb: 10)
    score_range: [0, 5]          # STS
    prompt: Find similar texts   # for models that take an instruction

Files are JSON lines (`.jsonl`), `.parquet`, `.csv`, or `.tsv` without quoting; `.csv.gz` and `.tsv.gz` work too.

A folder in BEIR's layout needs no `task.yaml`: `corpus.jsonl` and `queries.jsonl` with `_id`, `qrels/*.tsv`. Any other folder without
`task.yaml` is not scored, but rows that repeat its texts are quarantined.

Belongs here: the layouts, and checking a description. Not here: data files (`workers/folder_data.py`), mteb
(`workers/folder_tasks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from speed_assets.domain.bounded_yaml import YamlProblem, read_yaml_text

DESCRIPTION = "task.yaml"
Kind = Literal["STS", "PairClassification", "Classification", "Clustering", "Retrieval", "Reranking"]
RANKING = ("Retrieval", "Reranking")

FIELDS: dict[str, tuple[str, ...]] = {
    "STS": ("sentence1", "sentence2", "score"),
    "PairClassification": ("sentence1", "sentence2", "label"),
    "Classification": ("text", "label"),
    "Clustering": ("text", "label"),
    "Retrieval": ("query_id", "document_id", "relevance"),
    "Reranking": ("query_id", "document_id", "relevance"),
}
"""Columns of a split by task type; `fields` of a description names the columns of a file that differ."""

ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("_id",),
    "query_id": ("query-id",),
    "document_id": ("corpus-id",),
    "relevance": ("score",),
}
"""Names that BEIR's files have for columns; they are taken where a file has no column of our name and `fields` names none."""

MAIN_SCORES = {
    "STS": "cosine_spearman",
    "PairClassification": "max_ap",
    "Classification": "accuracy",
    "Clustering": "v_measure",
    "Retrieval": "ndcg_at_10",
    "Reranking": "map_at_1000",
}


def _roles(kind: str | None) -> tuple[str, ...]:
    """What `fields` may name for a type of task; nothing for a type that is not known."""
    own = FIELDS.get(str(kind), ())
    if kind not in RANKING:
        return own
    return (
        *own,
        "id",
        "title",
        "text",
        *(f"corpus.{role}" for role in ("id", "title", "text")),
        "queries.id",
        "queries.text",
    )


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name.isprintable() or len(name) > 250:
        raise ValueError("a file of the set must be in its folder")
    return name


File = Annotated[str, AfterValidator(_inside)]


class Description(BaseModel):
    """The contents of `task.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")]
    type: Kind
    splits: Annotated[dict[str, File], Field(min_length=1)]
    corpus: File | None = None
    queries: File | None = None
    candidates: File | None = None
    fields: dict[str, str | tuple[str, ...]] = {}
    dangling: Literal["refuse", "drop"] = "refuse"
    eval_splits: tuple[str, ...] = ("test",)
    main_score: str | None = None
    revision: str | None = None
    samples_per_label: Annotated[int, Field(ge=1, le=100_000)] = 8
    experiments: Annotated[int, Field(ge=1, le=10_000)] = 10
    score_range: tuple[float, float] = (0, 5)
    prompt: str | None = None
    languages: tuple[str, ...] = ("eng-Latn",)
    description: str = ""
    licence: str | None = None

    @field_validator("fields", mode="before")
    @classmethod
    def _check_roles(cls, fields: Any, info: ValidationInfo) -> Any:
        """A role that nothing reads would leave a column unread without a word."""
        known = _roles(info.data.get("type"))
        if known and isinstance(fields, Mapping) and (unknown := [str(role) for role in fields if role not in known]):
            raise ValueError(f"there is no role {', '.join(unknown)}; known are {', '.join(known)}")
        return fields

    @model_validator(mode="after")
    def _check_fields(self) -> Description:
        needed = list(self.eval_splits) + ["train"] * (self.type == "Classification")
        missing = [f"splits.{name}" for name in needed if name not in self.splits]
        for field in ("corpus", "queries"):
            if (getattr(self, field) is None) == (self.type in RANKING):
                missing.append(
                    f"{field} {'(a ranking task has one)' if self.type in RANKING else '(only for ranking)'}"
                )
        if (self.candidates is None) == (self.type == "Reranking"):
            missing.append("candidates (of reranking tasks, and of no others)")
        if missing:
            raise ValueError(f"missing or out of place: {', '.join(missing)}")
        return self

    def columns(self, role: str, file: str | None = None) -> tuple[str, ...]:
        """Columns that may hold a role, the first that is there; several names in `fields` are joined and all have to be there.

        Args:
            role: our name for the column.
            file: `corpus` or `queries`, whose own name for it goes first.
        """
        named = self.fields.get(f"{file}.{role}", self.fields.get(role))
        if named is None:
            return (role, *ALIASES.get(role, ()))
        return (named,) if isinstance(named, str) else named

    def is_named(self, role: str, file: str | None = None) -> bool:
        """Whether `fields` says which columns hold a role."""
        return f"{file}.{role}" in self.fields or role in self.fields

    def joined(self, role: str, file: str | None = None) -> bool:
        """Whether several columns together are this one."""
        return isinstance(self.fields.get(f"{file}.{role}", self.fields.get(role)), tuple)

    def files(self) -> list[str]:
        """Every data file, once, in order of name."""
        named = [*self.splits.values(), self.corpus, self.queries, self.candidates]
        return sorted({name for name in named if name is not None})


def beir_description(folder: str, files: Collection[str]) -> Description | None:
    """The description of a folder in BEIR's layout, or None when it is none.

    Args:
        folder: its name, which scores carry.
        files: paths of its files below it, with `/`.

    Raises:
        ValueError: when there are judgements of several splits, none of which is called `test`.
    """
    corpus, queries = (
        next((name for name in (f"{stem}.jsonl", f"{stem}.jsonl.gz", f"{stem}.parquet") if name in files), None)
        for stem in ("corpus", "queries")
    )
    splits = {PurePosixPath(name).stem: name for name in sorted(files) if re.fullmatch(r"qrels/[^/]+\.tsv", name)}
    if corpus is None or queries is None or not splits:
        return None
    if "test" not in splits and len(splits) > 1:
        raise ValueError(
            f"qrels has {', '.join(splits)} and no test.tsv: say which is scored with a {DESCRIPTION} (eval_splits)"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder).strip("-._")[:80] or "own"
    scored = "test" if "test" in splits else next(iter(splits))
    return Description(
        name=name,
        type="Retrieval",
        splits={scored: splits[scored]},
        corpus=corpus,
        queries=queries,
        eval_splits=(scored,),
    )


def read_description(text: str) -> Description:
    """Read `task.yaml`.

    Raises:
        ValueError: A field is missing or wrong; the message names it.
    """
    try:
        return Description.model_validate(read_yaml_text(text))
    except YamlProblem:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError where two evaluation sets have one name: scores are kept by it."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two evaluation sets are called {name}: give each a name of its own")
        seen.add(name)


OWN_SETS = ("own_evaluation", "own_queries")
"""The user's own sets, as scores call them: queries for held-out documents, and queries that the user has judged."""
